"""The systems of the paper and of its successor as shipped, and FT and FE with a decoder that reads every stage.

At 256 px: four iterations and two test images. Slow.
"""

from __future__ import annotations

import json
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from xtask_reg.data import synthetic
from xtask_reg.integrations.mmpose_files import configs
from xtask_reg.sources import caffe_resnet50, load_weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NAMES = {system: f"td-hm_res50_{system}_landmarks-256x256.py" for system in ("fe", "ftp", "ft")}
NAMES |= {"hg": "td-hm_hourglass52_hg_landmarks-256x256.py"}
NAMES |= {system: f"td-hm_res50_{system}_landmarks-256x256.py" for system in ("ctd-cd", "ctd-ed", "ctd-com", "ctd-att")}
NAMES |= {
    f"multiscale-{each}": f"multiscale/td-hm_res50-multiscale_{each}_landmarks-256x256.py" for each in ("ft", "fe")
}
TRAINS = {**dict.fromkeys(("fe", "multiscale-fe"), ("head.",)), "ftp": ("head.", "backbone.layer4.")}
TERMS = {"ctd-cd": {"loss_cd"}, "ctd-ed": {"loss_ed"}, "ctd-com": {"loss_cd", "loss_ed"}}
TERMS["ctd-att"] = {"loss_cd", "loss_ed", "loss_sa", "loss_ca"}
PLUGINS = ["xtask_reg.integrations.mmpose", "probe"]
EVERYTHING = ("",)
NEVER_CALLED = {"hg": "backbone.inters.0."}
"""MMPose builds this module even for one stack; hence find_unused_parameters in the config."""


@pytest.fixture(scope="session")
def faces(shared) -> Path:
    """Eight images to train on, two to validate, two to test, 256 x 256."""

    def make(folder: Path) -> None:
        for split, people in {"train": range(8), "val": range(8, 10), "test": range(10, 12)}.items():
            synthetic.write_landmark_set(folder, people, 1, 256, split=split)

    return shared("faces256", make)


@pytest.fixture(scope="session")
def vggface2(shared, process) -> Path:
    """A random network in the published pickle format, imported by the command."""

    def make(folder: Path) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            weights = {key: value.numpy() for key, value in caffe_resnet50().state_dict().items()}
        weights = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
        weights["conv1.weight"] = np.ascontiguousarray(weights["conv1.weight"][:, ::-1])
        (folder / "resnet50_ft_weight.pkl").write_bytes(pickle.dumps(weights, protocol=2))
        files = [str(folder / "resnet50_ft_weight.pkl"), str(folder / "vggface2.safetensors")]
        result = process([sys.executable, "-m", "xtask_reg", "import-vggface2", *files], folder)
        assert result.returncode == 0, result.stderr

    return shared("vggface2", make) / "vggface2.safetensors"


@pytest.fixture(scope="session")
def settings(faces, vggface2) -> dict[str, Any]:
    """A user's settings: the paths of data and source, and one epoch."""
    return {
        **{f"{split}_dataloader.dataset.data_root": faces for split in ("train", "val", "test")},
        "model.backbone.init_cfg.checkpoint": vggface2,
        "train_cfg.max_epochs": 1,
        "default_hooks.logger.interval": 1,
        "default_hooks.checkpoint.save_optimizer": False,
    }


@pytest.fixture(
    scope="session", params=[pytest.param(system, marks=pytest.mark.xdist_group(system)) for system in NAMES]
)
def run(request, shared, settings, tool_command, process) -> tuple[str, Path, dict[str, Any]]:
    """A system, the folder of its run by tools/train.py and tools/test.py, and its options."""
    system = request.param
    options = {key: value for key, value in settings.items() if system != "hg" or "init_cfg" not in key}

    def make(folder: Path) -> None:
        config = folder / f"{system}.py"
        shipped = str(configs() / NAMES[system])
        config.write_text(f"_base_ = [{shipped!r}]\ncustom_imports = dict(imports={PLUGINS})\n")
        probe = {"default_hooks.probe.type": "Probe", "default_hooks.probe.out": folder / "probe.pt"}
        outfile = {"test_evaluator.outfile": folder / "predictions.json"}
        for command in (
            tool_command("train", [str(config), "--work-dir", str(folder)], {**options, **probe}),
            tool_command("test", [shipped, str(folder / "epoch_1.pth")], {**options, **outfile}),
        ):
            result = process(command, folder, timeout=900)
            with (folder / "output.txt").open("a") as output:
                output.write(result.stdout + result.stderr)
            assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]

    return system, shared(f"paper-{system}", make), options


def seen(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "probe.pt", weights_only=True)


def test_four_finite_steps_with_the_terms_of_the_system(run):
    system, folder, _ = run
    steps = seen(folder)["logged"]
    assert len(steps) == 4
    for step in steps:
        assert {key for key in step if "loss" in key} == {"loss", "loss_kpt", *TERMS.get(system, ())}
        assert all(math.isfinite(value) for value in step.values())


def test_trainable_parameters_changed_and_frozen_ones_did_not(run):
    system, folder, _ = run
    trains = TRAINS.get(system, EVERYTHING)
    start, end = seen(folder)["start"], load_weights(folder / "epoch_1.pth")
    for key, value in end.items():
        changes = key.startswith(trains) and not key.startswith(NEVER_CALLED.get(system, "-"))
        assert torch.equal(value, start[key]) != changes, key


def test_student_and_teacher_start_as_the_imported_network(run, vggface2):
    system, folder, _ = run
    if system == "hg":
        return
    facts, weights = seen(folder), load_weights(vggface2)
    encoder = {f"backbone.{key}": value for key, value in weights.items() if not key.startswith("fc.")}
    start = {key: value for key, value in facts["start"].items() if key.startswith("backbone.")}
    torch.testing.assert_close(start, encoder, rtol=0, atol=0)
    if system in TERMS:
        assert facts["before"] == facts["after"]
        encoder |= {f"classifier.{key}": value for key, value in weights.items() if key.startswith("fc.")}
        teacher = {key: value for key, value in encoder.items() if system != "ctd-ed" or "classifier" not in key}
        torch.testing.assert_close(dict(facts["teacher"]), teacher, rtol=0, atol=0)


def test_two_images_are_tested(run, faces):
    _, folder, _ = run
    images = json.loads((folder / "predictions.json").read_text())["images"]
    assert len(images) == 2
    points = np.array([image["predicted"] for image in images])
    assert points.shape == (2, 14, 2)
    assert ((points >= 0) & (points < 256)).all()
    annotations = json.loads((faces / "test.json").read_text())["annotations"]
    truth = np.array([np.reshape(annotation["keypoints"], (-1, 3))[:, :2] for annotation in annotations])
    errors = np.linalg.norm(points - truth, axis=2).mean(1) / 4
    np.testing.assert_allclose([image["error"] for image in images], errors, rtol=1e-5)


def test_each_term_reaches_layer4_and_no_parameter_is_unused(run, tmp_path):
    """The gradient of each term, and of the sum: a parameter without one would stop distributed training."""
    system, folder, options = run
    config = Config.fromfile(configs() / NAMES[system])
    config.merge_from_dict({key: DictAction._parse_iterable(str(value)) for key, value in options.items()})
    config.merge_from_dict({"train_dataloader.num_workers": 0, "train_dataloader.persistent_workers": False})
    config.work_dir, config.experiment_name = str(tmp_path), f"paper_{system}"
    runner = Runner.from_cfg(config)
    model = runner.model.train()
    model.init_weights()
    model.load_state_dict(load_weights(folder / "epoch_1.pth"), strict=True)
    batch = next(iter(runner.build_dataloader(config.train_dataloader, seed=0)))
    losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
    for name in TERMS.get(system, ()):
        layer4 = [parameter for parameter in model.backbone.layer4.parameters() if parameter.ndim == 4]
        gradients = torch.autograd.grad(losses[name], layer4, retain_graph=True)
        assert all(gradient.isfinite().all() and gradient.norm() > 0 for gradient in gradients), name
    sum(value for key, value in losses.items() if "loss" in key).backward()
    unused = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    expected = {name for name, _ in model.named_parameters() if name.startswith(NEVER_CALLED.get(system, "-"))}
    assert unused == expected
    assert config.get("find_unused_parameters", False) == bool(expected)
