"""The configs of the paper with other sources, with the options in docs/mmpose.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch

from xtask_reg.integrations.mmpose_files import configs
from xtask_reg.sources import dlib_resnet29, load_weights, save_weights

DOCS = Path(__file__).parents[2] / "docs" / "mmpose.md"
NETWORKS = {
    "efficientnet_lite0.safetensors": lambda: timm.create_model("tf_efficientnet_lite0"),
    "dlib_face_resnet29_128d.pth": dlib_resnet29,
}


def documented(checkpoint: str) -> tuple[str, dict[str, str]]:
    """The config and the options of the command in the docs that names this file."""
    (block,) = (b for b in re.findall(r"```bash\n(.*?)```", DOCS.read_text(), re.DOTALL) if f"/{checkpoint}" in b)
    command, _, options = block.replace("\\\n", " ").partition("--cfg-options")
    return command.split("configs/mmpose/")[1].strip(), dict(option.split("=", 1) for option in options.split())


@pytest.fixture(scope="session")
def trained(shared, landmarks, tool_command, process):
    """``trained(checkpoint, system)``: the work folder of a run at 64 px from a random file of that name."""

    def get(checkpoint: str, system: str) -> Path:
        def make(folder: Path) -> None:
            config, options = documented(checkpoint)
            weights = NETWORKS[checkpoint]().state_dict()
            save = save_weights if checkpoint.endswith("safetensors") else torch.save
            save(weights, folder / checkpoint)
            if system != "ctd-ed":
                options = {key: value for key, value in options.items() if not key.startswith("model.terms")}
            loaders = ("train", "val")
            options |= {f"{split}_dataloader.dataset.data_root": str(landmarks) for split in loaders}
            options |= {f"{split}_dataloader.num_workers": "0" for split in loaders}
            options |= {f"{split}_dataloader.persistent_workers": "False" for split in loaders}
            options |= {
                "train_dataloader.dataset.pipeline.4.input_size": "64,64",
                "val_dataloader.dataset.pipeline.2.input_size": "64,64",
                "model.backbone.init_cfg.checkpoint": str(folder / checkpoint),
                "train_cfg.max_epochs": "1",
                "default_hooks.logger.interval": "1",
            }
            path = str(configs() / config.replace("ctd-ed", system))
            result = process(tool_command("train", [path, "--work-dir", str(folder)], options), folder)
            (folder / "output.txt").write_text(result.stdout + result.stderr)
            assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]

        return shared(f"{system}-{checkpoint.split('.')[0]}", make)

    return get


@pytest.mark.parametrize("checkpoint", NETWORKS)
def test_ctd_ed(trained, checkpoint):
    folder = trained(checkpoint, "ctd-ed")
    terms = [float(value) for value in re.findall(r"loss_ed: (\S+)", (folder / "output.txt").read_text())]
    assert len(terms) == 4
    assert all(0 < value < 0.002 * 2 for value in terms[1:])
    source, end = load_weights(folder / checkpoint), load_weights(folder / "epoch_1.pth")
    encoder = {key.removeprefix("backbone.net."): value for key, value in end.items() if key.startswith("backbone.net")}
    assert encoder.keys() <= source.keys()
    assert all(not torch.equal(value, source[key]) for key, value in encoder.items() if key.endswith("conv.weight"))


def test_fe(trained):
    """Any encoder is frozen."""
    folder = trained("efficientnet_lite0.safetensors", "fe")
    assert "(backbone 0 of 2,958,848, head" in (folder / "output.txt").read_text()
    source, end = load_weights(folder / "efficientnet_lite0.safetensors"), load_weights(folder / "epoch_1.pth")
    frozen = [key for key in end if key.startswith("backbone.")]
    assert len(frozen) == 288
    assert all(torch.equal(end[key], source[key.removeprefix("backbone.net.")]) for key in frozen)
