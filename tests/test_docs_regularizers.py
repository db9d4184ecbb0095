"""docs/regularizers.md: its tables are complete, and agree with the library and the result file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torchvision

import xtask_reg as xr
from xtask_reg.shorthands import NAMES, SUMS

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "docs/regularizers.md").read_text()
COST = json.loads((REPOSITORY / "benchmarks/results/loss_cost.json").read_text())
GPU_COST = json.loads((REPOSITORY / "benchmarks/results/loss_cost_gpu.json").read_text())
LOSSES = {name for name in xr.__all__ if name.endswith(("Loss", "Penalty"))} - {"Penalty"}
SETTING = "cpu, float32, 1 thread"


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> dict[str, list[str]]:
    """The cells of the table in a section, by the name in the first column."""
    cells = [line.strip("| ").split(" | ") for line in section(title).splitlines() if line.startswith("| `")]
    return {re.match(r"`([\w-]+)`", first)[1]: others for first, *others in cells}


def test_each_loss_has_a_row():
    assert rows("The table").keys() >= LOSSES
    assert all(hasattr(xr, name) for name in rows("The table"))


def test_costs_are_those_of_the_result_file():
    measured = COST["settings"][SETTING]["losses"]
    assert measured.keys() == LOSSES
    on_a_gpu = GPU_COST["settings"]["cuda, float32"]["losses"]
    for name, (percent, quartiles, target, milliseconds, of_teacher) in rows("What they cost").items():
        cost = measured.pop(name)
        assert milliseconds == f"{on_a_gpu[name]['milliseconds']['median']:.2f}"
        assert of_teacher == f"{on_a_gpu[name]['percent']['median']:.0f}"
        assert not on_a_gpu[name]["meets_target"]  # the page says so of all
        expected = cost["percent"]
        assert percent == f"{expected['median']:.2f}", name
        assert quartiles == f"{expected['lower']:.2f} to {expected['upper']:.2f}", name
        assert target == f"below {cost['target']}: {'met' if expected['median'] < cost['target'] else 'missed'}", name
        assert cost["target"] == (15 if name.startswith(("RKD", "BSS")) else 5)
        assert cost["meets_target"] == (expected["median"] < cost["target"])
    assert measured == {}


def test_the_repetitions_are_those_of_the_result_file():
    words = " ".join(section("What they cost").split())
    assert f"{COST['settings'][SETTING]['repetitions']} repetitions" in words
    assert f"{GPU_COST['settings']['cuda, float32']['repetitions']} repetitions" in words


LAYERS = [f"layer{number}" for number in range(1, 5)]
TAPS = {
    "last stage, its classes": [("layer4", "fc")],
    "last stage": [("layer4", "layer4")],
    "each stage": list(zip(LAYERS, LAYERS, strict=True)),
    "parameters around the stages": [("", "")],
    "last stage of the student": [("layer4", None)],
}


def test_each_regularizer_by_name_has_a_row():
    assert list(rows("By name")) == [*NAMES, *SUMS]


@pytest.mark.parametrize("name", NAMES)
def test_row_by_name(name):
    losses, taps, weight = rows("By name")[name]
    terms = xr.shorthand(torchvision.models.resnet18(num_classes=28), torchvision.models.resnet18(), name)
    assert [(term.student, term.teacher) for term in terms] == TAPS[taps]
    assert {f"`{type(term.loss).__name__}`" for term in terms} == {losses}
    assert {show(term.weighting) for term in terms} == {weight}


def show(weight: object) -> str:
    return f"`Balanced({weight.ratio})`" if isinstance(weight, xr.Balanced) else f"{weight:g}"


@pytest.mark.parametrize("name", SUMS)
def test_row_of_a_sum(name):
    terms, taps, weight = rows("By name")[name]
    assert terms == " + ".join(f"`{part}`" for part in SUMS[name].split(" + "))
    assert (taps, weight) == ("as those", "as those")
