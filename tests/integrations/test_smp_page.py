"""docs/smp.md, executed and checked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from parts.report import markdown_table, sentence

import xtask_reg as xr

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "smp.md").read_text()
TAPS = [
    (architecture, name, cell.strip().strip("`"))
    for row in re.findall(r"^\| (`.*encoder.*) \|$", PAGE.split("## What is tapped")[1].split("\n## ")[0], re.MULTILINE)
    for names, both, deeplab in [row.split("|")]
    for name in re.findall(r"`([^`]+)`", names)
    for architecture, cell in (("Unet", both), ("FPN", both), ("DeepLabV3Plus", deeplab))
]


def test_code_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/smp.md", "exec"), namespace)
    said = capsys.readouterr().out.splitlines()
    assert next(line for line in said if line.startswith("ctd_ed:")).partition("(ratio")[0] in PAGE
    dice = dict(zip(namespace["classes"], np.array(namespace["dice"])))
    assert dice["background"] > 0.6
    assert dice["skin"] > 0.5
    assert float(re.search(r"mean error ([\d.]+) heatmap px", said[-1])[1]) < 3  # of 16


def test_the_table_has_all_rows() -> None:
    assert len({name for _, name, _ in TAPS}) >= 10


@pytest.mark.filterwarnings("ignore:`timm-` encoders:DeprecationWarning")
@pytest.mark.parametrize(("architecture", "name", "tap"), TAPS)
def test_what_is_tapped_where(architecture: str, name: str, tap: str) -> None:
    if tap == "not in SMP":
        with pytest.raises((ValueError, TypeError)):
            smp.create_model(architecture, name, encoder_weights=None)
        return
    assert xr.find_stages(smp.create_model(architecture, name, encoder_weights=None))[-1] == tap


@pytest.mark.parametrize("encoder", ["efficientnet-b0", "mobilenet_v2"])
def test_a_shorter_encoder_may_compute_more_than_is_used(encoder: str) -> None:
    model = smp.create_model("PSPNet", encoder, encoder_weights=None).eval()
    last, images = xr.find_stages(model)[-1], torch.rand(1, 3, 64, 64)
    assert xr.FrozenTeacher(model).features(images, [last])[last].shape[2] < model.encoder(images)[-1].shape[2]


def test_a_shorter_encoder_is_told_where_it_ends() -> None:
    model = smp.create_model("PSPNet", "resnet18", encoder_weights=None).eval()
    images = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="no stages were found"):
        xr.ctd(model, torchvision.models.resnet18())
    (stages,) = re.findall(r"stages=(\{.*?\})\)` for a PSPNet", PAGE)
    keep = xr.ctd(model, torchvision.models.resnet18(), stages=json.loads(stages), quiet=True)
    (term,) = keep.terms.values()
    tap = xr.FrozenTeacher(model).features(images, [term.student])[term.student]
    assert torch.equal(tap, model.encoder(images)[-1])


@pytest.mark.parametrize(("architecture", "stride"), [("FPN", 4), ("DeepLabV3Plus", 4), ("Unet", 1)])
def test_strides_of_the_heatmaps(architecture: str, stride: int) -> None:
    options = {} if architecture == "Unet" else {"upsampling": 1}
    model = smp.create_model(architecture, "resnet18", encoder_weights=None, classes=14, **options)
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 14, 64 // stride, 64 // stride)


@pytest.mark.parametrize("name", ["synthetic", "frl"])
def test_numbers_are_those_of_the_result_files(name: str) -> None:
    results = json.loads((REPOSITORY / "benchmarks" / "results" / f"face_parts_{name}.json").read_text())
    assert markdown_table(results) in PAGE
    assert sentence(results) in PAGE
    facts = f"{results['images']['train']} labelled images, {results['images']['test']} test images"
    assert facts in PAGE
    assert f"{results['source']['held_out_accuracy']:.0%} of held-out images" in PAGE
    assert f"{results['settings']['epochs']} epochs" in PAGE
