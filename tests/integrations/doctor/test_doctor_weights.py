"""Weights that change during training, in `xtask-reg doctor`, by hand."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xtask_reg.integrations.mmpose.doctor import parse_options
from xtask_reg.integrations.mmpose.doctor.network import first_trainable_layer
from xtask_reg.integrations.mmpose.doctor.start import started
from xtask_reg.integrations.mmpose.doctor.step import make_step

TAP = {"student": "backbone.layer4", "teacher": "backbone.layer4"}
ED = {"name": "loss_ed", "loss": dict(type="CosineAlignmentLoss"), **TAP}
SP = {"name": "loss_sp", "loss": dict(type="L2SPPenalty"), "student": "backbone", "teacher": "backbone"}


def gradient(loss: Tensor, at: Tensor) -> Tensor:
    return torch.autograd.grad(loss, at, retain_graph=True)[0]


SCHEDULES = {
    "decay": (dict(type="CosineDecay", start=1e-4), 1e-4, "CosineDecay(0.0001)"),
    "warmup": (dict(type="Warmup", to=2e-4, until=0.5), 2e-4, "Warmup(0.0002)"),
    "steps": (dict(type="Steps", values=[1e-5, 3e-4, 0], at=[0.3, 0.6]), 3e-4, "Steps(0.0003)"),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedule_counts_with_its_largest_weight(diagnose, first_step, printed, kind):
    config, weight, short = SCHEDULES[kind]
    changes = {"model.terms": [{**ED, "weight": config}]}
    examination, step = diagnose(changes), first_step(changes)
    losses, ed = examination.facts.losses, step["ed"]["layer4"]
    (term,) = losses.terms
    assert (term.weight, term.weighting, term.scheduled, term.balanced) == (weight, short, True, False)
    assert term.value == pytest.approx(ed.item(), rel=1e-3)
    assert term.weighted == pytest.approx(weight * ed.item(), rel=1e-3)
    assert losses.total == pytest.approx(step["task"].item() + weight * ed.item(), rel=1e-4)
    norms = [gradient(loss, step["student"]["layer4"]).norm().item() for loss in (ed, step["task"])]
    assert term.at_tap.ratio == pytest.approx(weight * norms[0] / norms[1], rel=1e-3)
    row = next(line for line in printed(examination).splitlines() if "loss_ed" in line and short in line)
    assert f"{weight * ed.item():.3g}" in row
    assert "its weight changes during training; shown here is the largest" in " ".join(printed(examination).split())


def test_balanced_weight_is_what_the_gradients_give(diagnose, first_step, printed):
    """A neighbour at the same tap is not the rest, a term at a deeper layer is; another balanced one has no weight."""
    balanced = [
        {**ED, "weight": dict(type="Balanced", ratio=0.3)},
        {**ED, "name": "loss_3", "student": "backbone.layer3", "teacher": "backbone.layer3",
         "weight": dict(type="Balanced", ratio=dict(type="LinearDecay", start=0.2))},
    ]  # fmt: skip
    constant = {**ED, "name": "loss_squares", "loss": dict(type="HintLoss"), "weight": 1e-4}
    changes = {"model.terms": [*balanced, constant]}
    examination, step = diagnose(changes), first_step(changes)
    student, teacher = step["student"], step["teacher"]
    squares = 1e-4 * F.mse_loss(student["layer4"], teacher["layer4"].detach()) / 2
    rest = {"layer4": step["task"], "layer3": step["task"] + squares}
    ratios = {"layer4": (0.3, "0.3"), "layer3": (0.2, "LinearDecay(0.2)")}
    for term, (layer, (ratio, short)) in zip(examination.facts.losses.terms, ratios.items()):
        own, others = (gradient(loss, student[layer]).norm() for loss in (step["ed"][layer], rest[layer]))
        assert term.weight == pytest.approx((ratio * others / own).item(), rel=1e-3)
        assert term.weighted == pytest.approx((ratio * others / own * step["ed"][layer]).item(), rel=1e-3)
        assert (term.weighting, term.balanced, term.scheduled) == (f"Balanced({short})", True, layer == "layer3")
        assert f"the gradients of this batch give the weight {term.weight:.3g};" in " ".join(
            printed(examination).split()
        )
    assert examination.facts.losses.terms[0].at_tap.ratio == pytest.approx(0.3, rel=1e-4)


def test_balanced_weight_without_a_gradient_of_its_own(diagnose, printed, risks):
    """Student and teacher are the same network, so the gradient is exactly 0."""
    changes = {"model.terms": [{**SP, "weight": dict(type="Balanced", ratio=0.1)}]}
    examination = diagnose(changes)
    (term,) = examination.facts.losses.terms
    assert (term.weight, term.value, term.weighted) == (0, 0, 0)
    assert "the gradients of this batch give no weight yet" in " ".join(printed(examination).split())
    assert risks(examination) == {}


def test_the_watched_step_does_not_count(config_path, tiny_options):
    """Neither balanced weights nor the monitor count it; afterwards the terms have their own weights again."""
    given = parse_options([f"{key}={value}" for key, value in tiny_options("ctd-com").items()])
    weight = dict(type="Balanced", ratio=0.3)
    given |= {"model.terms": [{**ED, "weight": weight}, {**SP, "weight": dict(type="Warmup", to=0.1)}]}
    with started(Path(config_path("ctd-com")), given) as start:
        regularizer = start.runner.model.regularizer
        term, state = regularizer.terms["loss_ed"], copy.deepcopy(regularizer.state_dict())
        own = term.weighting
        step = make_step(start.runner, start.batch, regularizer, first_trainable_layer(start.runner.model))
        assert step.report
        assert term.weighting is own
        assert (own.steps, own.measurements) == (0, 0)
        assert regularizer.report == {}
        assert not regularizer.was_measured
        assert {key: value.tolist() for key, value in regularizer.state_dict().items()} == {
            key: value.tolist() for key, value in state.items()
        }
        assert regularizer.terms["loss_sp"].weight == 0
        start.runner.model.train_step(start.batch, start.runner.optim_wrapper)
        assert own.steps == 1
        assert math.isfinite(regularizer.report["cka/backbone.layer1"])
