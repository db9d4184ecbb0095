"""The shipped configs: what they build, and how they are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpose.registry import MODELS

from xtask_reg.integrations.mmpose_files import configs, tool

CONFIGS = sorted(path.relative_to(configs()).as_posix() for path in configs().rglob("td-hm_*.py"))
SYSTEMS = ("fe", "ftp", "ft", "hg", "ctd-cd", "ctd-ed", "ctd-com", "ctd-att")
TERMS = {"ctd-cd": ["loss_cd"], "ctd-ed": ["loss_ed"], "ctd-com": ["loss_cd", "loss_ed"]}
TERMS |= {"ctd-att": ["loss_cd", "loss_ed", "loss_sa", "loss_ca"]}
LOSSES = {
    "loss_cd": dict(type="SoftmaxL2Loss", temperature=2.0, reduction="mean"),
    "loss_ed": dict(type="CosineAlignmentLoss", over="flatten", reduction="mean"),
    "loss_sa": dict(type="AttentionTransferLoss", power=2.0, reduction="mean"),
    "loss_ca": dict(type="ChannelAttentionLoss", power=2.0, reduction="mean"),
}


def read(name: str) -> Config:
    return Config.fromfile(configs() / name)


def paper(system: str) -> str:
    (name,) = (name for name in CONFIGS if f"_{system}_landmarks-256x256" in name and "/" not in name)
    return name


def parameters(model: torch.nn.Module, trainable: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_builds_and_is_short(name):
    assert MODELS.build(read(name).model) is not None
    assert len((configs() / name).read_text().splitlines()) <= 22


@pytest.mark.parametrize("system", SYSTEMS)
def test_settings_of_the_paper(system):
    config = read(paper(system))
    assert config.train_dataloader.batch_size == 2
    assert config.train_cfg.max_epochs == 150
    assert config.optim_wrapper.optimizer.to_dict() == dict(type="Adam", lr=1e-3)
    assert config.param_scheduler[0].type == "PolyLR"
    assert config.codec.sigma == 1.5
    assert config.train_pipeline[2].to_dict() == dict(type="RandomFlip", direction="horizontal", prob=0.5)
    low, high = config.train_pipeline[3].scale_factor
    assert (1 / high, 1 / low) == pytest.approx((0.8, 1.2))
    assert config.train_pipeline[4].input_size == (256, 256)
    assert config.test_evaluator.threshold == 1.2
    terms = {term.name: term for term in config.model.get("terms", [])}
    assert list(terms) == TERMS.get(system, [])
    for name, term in terms.items():
        assert term.weight == 0.002
        assert term.loss.to_dict() == LOSSES[name]
        assert (term.student, term.teacher) == (
            "backbone.layer4",
            "classifier" if name == "loss_cd" else "backbone.layer4",
        )
    assert (config.model.get("monitor") == dict(every=50)) is bool(terms)


def decoder(channels: int, landmarks: int) -> int:
    """Parameters of three 4x4 deconvolutions of 256 channels with batch norm, and a 1x1 convolution with bias."""
    return channels * 256 * 16 + 2 * 256 * 256 * 16 + 3 * 2 * 256 + 256 * landmarks + landmarks


RESNET50, LAYER4, CLASSIFIER = 23_508_032, 14_964_736, 2048 * 8631 + 8631
TRAINS = {"fe": 0, "ftp": LAYER4, "ft": RESNET50, "ctd-ed": RESNET50}
TRAINS |= dict.fromkeys(("ctd-cd", "ctd-com", "ctd-att"), RESNET50 + CLASSIFIER)


@pytest.mark.parametrize("system", TRAINS)
def test_number_of_trainable_parameters(system):
    """Torchvision's ResNet-50 without fc has 23508032 parameters, its layer4 14964736."""
    assert parameters(MODELS.build(read(paper(system)).model), trainable=True) == TRAINS[system] + decoder(2048, 14)


@pytest.mark.parametrize("system", ["ft", "fe"])
def test_a_multiscale_decoder_is_all_that_such_a_config_changes(system):
    """Its convolutions, 1x1 of the 3840 channels of all stages and 3x3, have biases and batch norms."""
    plain, other = read(paper(system)), read(f"multiscale/td-hm_res50-multiscale_{system}_landmarks-256x256.py")
    model, theirs = (config.model.to_dict() for config in (other, plain))
    assert model.pop("neck") == dict(type="FeatureMapProcessor", concat=True)
    assert {key for key in model if model[key] != theirs[key]} == {"backbone", "head"}
    assert model["backbone"] == {**theirs["backbone"], "out_indices": (0, 1, 2, 3)}
    assert {key: model["head"][key] for key in ("loss", "decoder")} == {
        key: theirs["head"][key] for key in ("loss", "decoder")
    }
    own = 3840 * 256 + 256 * 256 * 9 + 2 * 3 * 256 + 256 * 14 + 14
    with torch.device("meta"):
        built = MODELS.build(other.model).eval()
        assert built.head.forward(built.extract_feat(torch.empty(1, 3, 256, 256))).shape == (1, 14, 64, 64)
    assert parameters(built, trainable=True) == TRAINS[system] + own


def test_the_multiscale_config_of_the_page(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "mmpose.md").read_text()
    block = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    (tmp_path / "own.py").write_text(block.replace('"../', f'"{configs()}/'))
    own, plain = Config.fromfile(tmp_path / "own.py").model, read(paper("ctd-ed")).model
    theirs = read("multiscale/td-hm_res50-multiscale_ft_landmarks-256x256.py").model
    assert {key: own[key] for key in ("backbone", "neck", "head")} == {
        key: theirs[key] for key in ("backbone", "neck", "head")
    }
    assert {key for key in own if own[key] != plain.get(key)} == {"backbone", "neck", "head"}
    assert MODELS.build(own) is not None


@pytest.mark.parametrize("stacks", [1, 2])
def test_hourglass_is_that_of_mmpose(stacks):
    config = read(paper("hg"))
    config.merge_from_dict({"model.backbone.num_stacks": stacks, "model.head.num_stages": stacks})
    mim = Path(tool("train")).parents[1] / "configs" / "body_2d_keypoint" / "topdown_heatmap" / "coco"
    theirs = Config.fromfile(mim / "td-hm_hourglass52_8xb32-210e_coco-256x256.py").model
    theirs.head.out_channels, theirs.backbone.num_stacks, theirs.head.num_stages = 14, stacks, stacks
    with torch.device("meta"):  # only shapes matter
        own, other = MODELS.build(config.model), MODELS.build(theirs)
        assert {k: v.shape for k, v in own.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}
        shapes: list[Any] = [
            [out.shape for out in model.head.forward(model.backbone(torch.empty(1, 3, 256, 256)))]
            for model in (own.eval(), other.eval())
        ]
    assert shapes[0] == shapes[1] == [(1, 14, 64, 64)] * stacks
    if stacks == 1:
        assert parameters(own) == pytest.approx(95e6, rel=0.01)


@pytest.mark.parametrize("system", ["ft", "hg"])
def test_input_sizes_of_the_page(system):
    """Multiples of the sizes in docs/mmpose.md give heatmaps of a quarter of the input, and half of these do not."""
    page = (Path(__file__).parents[2] / "docs" / "mmpose.md").read_text()
    (found,) = re.findall(r"multiples of (\d+), for the Hourglass of (\d+)", page)
    side = int(found[system == "hg"])
    with torch.device("meta"):
        model = MODELS.build(read(paper(system)).model).eval()
    assert [heatmap_side(model, each) == each // 4 for each in (side // 2, side, 3 * side)] == [False, True, True]


def heatmap_side(model: torch.nn.Module, side: int) -> int | None:
    """The width of the heatmaps of a square input, None where the network fails on it."""
    try:
        heatmaps = model.head.forward(model.backbone(torch.empty(1, 3, side, side, device="meta")))
    except RuntimeError:
        return None
    return (heatmaps if isinstance(heatmaps, torch.Tensor) else heatmaps[-1]).shape[-1]
