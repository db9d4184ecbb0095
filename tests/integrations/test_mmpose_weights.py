"""Weights that change during training, built from configs, and their course in runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpose.registry import MODELS

from xtask_reg import Balanced, CosineDecay, LinearDecay, Steps, Warmup

EPOCHS, STEPS = 5, 2
KILLED = 7
LINEAR = dict(type="LinearDecay", start=0.8, end=0.2, begin=0.25)
GOOD = [
    (3, 3.0),
    (0.5, 0.5),
    (LINEAR, LinearDecay(0.8, 0.2, 0.25)),
    (dict(type="CosineDecay", start=0.4), CosineDecay(0.4)),
    (dict(type="Steps", values=[1, 0.1, 0], at=[0.3, 0.6]), Steps([1, 0.1, 0], [0.3, 0.6])),
    (dict(type="Warmup", to=0.3), Warmup(0.3)),
    (dict(type="Warmup", to=dict(type="CosineDecay", start=0.4), until=0.5), Warmup(CosineDecay(0.4), 0.5)),
    (dict(type="Warmup", to=dict(type="Warmup", to=LINEAR)), Warmup(Warmup(LinearDecay(0.8, 0.2, 0.25)))),
]
BAD = [
    (dict(type="CosineDecay", start=-1), "start=-1; expected a finite number"),
    (dict(type="LinearDecay"), "missing 1 required positional argument: 'start'"),
    (dict(type="LinearDecay", start=1, util=0.5), "unexpected keyword argument 'util'"),
    (dict(type="NoSuchDecay", start=1), "NoSuchDecay is not in the mmpose::model registry"),
    (dict(type="Steps", values=[1, 2], at=[0.2, 0.1]), "each larger than the last"),
    (dict(type="Warmup", to=dict(type="LinearDecay", start="a")), "start='a'"),
    (dict(type="Warmup", to=dict(type="Balanced")), "to=Balanced"),
    (dict(type="Balanced", ratio=-1), "ratio=-1"),
    (dict(type="Balanced", ratio=dict(type="LinearDecay", start=math.inf)), "start=inf"),
    (dict(type="HintLoss"), "expected a finite number >= 0, a Schedule or Balanced"),
    (dict(start=1), "expected a finite number >= 0, a Schedule or Balanced"),
    ("0.1", "expected a finite number >= 0, a Schedule or Balanced"),
    ([0.1], "expected a finite number >= 0, a Schedule or Balanced"),
]


@pytest.mark.parametrize(("config", "expected"), GOOD)
def test_weight_is_built(model_config, config, expected):
    model_config["terms"][1]["weight"] = config
    assert MODELS.build(model_config).regularizer.terms["loss_ed"].weighting == expected


def test_balanced_weight_is_built(model_config):
    ratio = dict(type="Warmup", to=0.2)
    model_config["terms"][1]["weight"] = dict(type="Balanced", ratio=ratio, every=3, calibrate=9)
    weight = MODELS.build(model_config).regularizer.terms["loss_ed"].weighting
    assert isinstance(weight, Balanced)
    assert (weight.ratio, weight.every, weight.calibrate) == (Warmup(0.2), 3, 9)


@pytest.mark.parametrize(("config", "match"), BAD)
def test_bad_weight_names_the_term(model_config, config, match):
    model_config["terms"][1]["weight"] = config
    with pytest.raises(ValueError, match=f"term 'loss_ed' has weight .*{match}"):
        MODELS.build(model_config)


def test_balanced_weight_of_ratio_0_is_left_out(model_config):
    model_config["terms"][1]["weight"] = dict(type="Balanced", ratio=0)
    assert list(MODELS.build(model_config).regularizer.terms) == ["loss_cd"]


# -- runs --------------------------------------------------------------------------------------------------------------

CHANGING = {
    "model.terms.0.weight._delete_": True,
    "model.terms.0.weight.type": "Balanced",
    "model.terms.0.weight.ratio": 0.1,
    "model.terms.0.weight.every": 2,
    "model.terms.1.weight._delete_": True,
    "model.terms.1.weight.type": "Warmup",
    "model.terms.1.weight.until": 0.4,
    "model.terms.1.weight.to.type": "CosineDecay",
    "model.terms.1.weight.to.start": 0.02,
    "train_cfg.max_epochs": EPOCHS,
    "train_cfg.val_interval": EPOCHS,
}
"""The options as on a command line."""


def warmup_to_cosine(progress: float) -> float:
    return 0.02 * 0.5 * (1 + math.cos(math.pi * progress)) * min(progress / 0.4, 1)


@pytest.fixture(scope="session")
def watched(train, options) -> Path:
    """A run with changing weights and a monitor."""
    return train("watched", "ctd-com", {**options, **CHANGING, "model.monitor.every": 1})


@pytest.fixture(scope="session")
def unwatched(train, options) -> Path:
    """The same without the monitor, with averaged weights beside it."""
    average = {"default_hooks.ema.type": "EMAHook", "default_hooks.ema.momentum": 0.5}
    return train("unwatched", "ctd-com", {**options, **CHANGING, **average, "model.monitor": "None"})


@pytest.fixture(scope="session")
def resumed(shared, tool_command, process, config_path, options) -> Path:
    """The first run once more, killed in mid-epoch and resumed."""

    def make(folder: Path) -> None:
        config = folder / "resumed.py"
        plugins = ["xtask_reg.integrations.mmpose", "probe", "die"]
        config.write_text(f"_base_ = [{config_path('ctd-com')!r}]\ncustom_imports = dict(imports={plugins})\n")
        hooks = {"default_hooks.probe.type": "Probe", "default_hooks.probe.out": folder / "probe.pt"}
        changes = {**options, **CHANGING, **hooks, "model.monitor.every": 1, "default_hooks.die.type": "Die"}
        command = tool_command("train", [str(config), "--work-dir", str(folder), "--resume"], changes)
        assert process(command, folder, DIE_AT=str(KILLED)).returncode == -9
        result = process(command, folder)
        assert result.returncode == 0, result.stderr[-3000:]

    return shared("balanced-resumed", make)


def log(run: Path) -> dict[int, dict[str, float]]:
    """The training's log by step; a repeated step counts the second time."""
    lines = [line for path in sorted(run.glob("*/vis_data/scalars.json")) for line in path.read_text().splitlines()]
    return {entry["step"]: entry for entry in map(json.loads, lines) if "loss" in entry}


def checkpoint(run: Path, epoch: int = EPOCHS) -> dict[str, Any]:
    return torch.load(run / f"epoch_{epoch}.pth", weights_only=True)


def seen(run: Path) -> dict[str, Any]:
    return torch.load(run / "probe.pt", weights_only=True)


def test_schedule_follows_the_run(watched):
    """The weight by which the loss was multiplied, and the one that the log states."""
    entries, steps = log(watched), seen(watched)["logged"]
    assert list(entries) == list(range(1, EPOCHS * STEPS + 1))
    for number, (entry, step) in enumerate(zip(entries.values(), steps, strict=True)):
        expected = warmup_to_cosine(number / (EPOCHS * STEPS))
        assert entry.get("weight/ed", 0.0) == pytest.approx(expected, rel=1e-5)
        assert step["loss_ed"] == pytest.approx(expected * entry.get("value/ed", 0.0), rel=1e-4)


def test_balanced_weight_of_a_run(watched):
    """The weight is 0 in the first five steps; then it keeps the gradient near the requested ratio of 0.1."""
    weights = [entry["weight/cd"] for entry in log(watched).values()]
    ratios = [entry.get("ratio/cd") for entry in log(watched).values()]
    steps = seen(watched)["logged"]
    assert weights[:5] == ratios[:5] == [0.0] * 5
    assert min(weights[5:]) > 0
    assert 0.02 < median(ratios[5:]) < 0.3
    for entry, step, weight in zip(log(watched).values(), steps, weights):
        assert step["loss_cd"] == pytest.approx(weight * entry["value/cd"], rel=1e-4)


def test_a_run_that_is_killed_and_resumed_is_the_uninterrupted_one(watched, resumed):
    """Balance, schedules, monitor: every number of the log, and the state that is saved."""
    assert seen(resumed)["epoch"] == KILLED // STEPS
    whole, again = log(watched), log(resumed)
    assert list(whole) == list(again)
    for step, entry in whole.items():
        measured = {key: value for key, value in entry.items() if "/" in key}
        assert {key: value for key, value in again[step].items() if "/" in key} == measured
    last, other = checkpoint(watched), checkpoint(resumed)
    torch.testing.assert_close(dict(other["xtask_reg"]), dict(last["xtask_reg"]), rtol=0, atol=0)
    torch.testing.assert_close(dict(other["state_dict"]), dict(last["state_dict"]), rtol=0, atol=0)


def test_balance_is_under_a_key_of_its_own(watched):
    state = checkpoint(watched)["xtask_reg"]
    balance = state["terms.loss_cd.weighting._extra_state"]
    assert balance[0] == EPOCHS * STEPS
    assert set(state) == {
        "terms.loss_cd.weighting._extra_state",
        *(f"terms.loss_cd.student_connector.fc.{kind}" for kind in ("weight", "bias")),
    }
    assert not [key for key in checkpoint(watched)["state_dict"] if "weighting" in key]


def test_monitor_and_averaging_leave_the_training_as_it_is(watched, unwatched):
    """Bitwise; the averaged copy does not affect the balance."""
    plain, other = seen(watched), seen(unwatched)
    assert other["logged"] == plain["logged"]
    torch.testing.assert_close(other["last_connectors"], plain["last_connectors"], rtol=0, atol=0)
    content = checkpoint(unwatched)["ema_state_dict"]
    own = {key.removeprefix("module."): value for key, value in content.items() if key != "steps"}
    torch.testing.assert_close(own, dict(checkpoint(watched)["state_dict"]), rtol=0, atol=0)
    assert not any(key.startswith(("cka/", "cosine/")) for entry in log(unwatched).values() for key in entry)


class Switch(Hook):
    """Replaces a term's weight in mid-training."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == 2:
            runner.model.regularizer.set_weight("loss_ed", LinearDecay(1.0))


def test_a_weight_that_is_set_in_mid_training_goes_by_the_run(tiny_runner):
    runner = tiny_runner({"model.monitor": dict(every=1), "train_cfg.val_interval": 10})
    runner.register_hook(Switch(), priority="VERY_HIGH")
    runner.train()
    assert runner.model.regularizer.report["weight/loss_ed"] == pytest.approx(1 - 3 / 4)
