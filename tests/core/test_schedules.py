"""Weights as functions of the progress of training."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import xtask_reg as xr

POINTS = np.linspace(0, 1, 101)

CURVES = {
    "linear": (xr.LinearDecay(0.4), 0.4 - 0.4 * POINTS),
    "linear, part": (xr.LinearDecay(2.0, 0.5, 0.2, 0.6), np.interp(POINTS, [0.2, 0.6], [2.0, 0.5])),
    "linear, late": (xr.LinearDecay(1.0, 0.0, begin=0.9), np.interp(POINTS, [0.9, 1.0], [1.0, 0.0])),
    "linear, growing": (xr.LinearDecay(0.0, 3.0, until=0.5), np.interp(POINTS, [0, 0.5], [0.0, 3.0])),
    "cosine": (xr.CosineDecay(0.4), 0.4 * np.cos(np.pi / 2 * POINTS) ** 2),
    "cosine, part": (
        xr.CosineDecay(2.0, 0.5, 0.25, 0.75),
        1.25 + 0.75 * np.cos(np.pi * np.interp(POINTS, [0.25, 0.75], [0, 1])),
    ),
    "steps": (xr.Steps([1, 0.1, 0], at=[0.3, 0.8]), np.array([1] * 30 + [0.1] * 50 + [0] * 21)),
    "one step": (xr.Steps([0.7], at=[]), np.full(101, 0.7)),
    "steps at the ends": (xr.Steps([5, 2, 3], at=[0, 1]), np.array([2] * 100 + [3])),
    "warmup": (xr.Warmup(0.8, until=0.25), np.interp(POINTS, [0, 0.25], [0, 0.8])),
    "warmup over all": (xr.Warmup(0.8, until=1), 0.8 * POINTS),
    "warmup by default": (xr.Warmup(1), np.interp(POINTS, [0, 0.1], [0, 1])),
    "warmup of a decay": (
        xr.Warmup(xr.LinearDecay(0.4), until=0.5),
        np.where(POINTS < 0.5, 2 * POINTS, 1) * 0.4 * (1 - POINTS),
    ),
    "warmup of a warmup": (xr.Warmup(xr.Warmup(1.0, 0.5), 0.5), np.minimum(2 * POINTS, 1) ** 2),
}


@pytest.mark.parametrize("name", CURVES)
def test_curve(name) -> None:
    schedule, expected = CURVES[name]
    found = [schedule(progress) for progress in POINTS.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        (xr.LinearDecay(0.3), 1.0, 0.0),
        (xr.CosineDecay(0.3), 1.0, 0.0),
        (xr.CosineDecay(0.3, until=0.7), 0.7, 0.0),
        (xr.LinearDecay(0.3, 0.1, 0.1, 0.3), 0.3, 0.1),
        (xr.CosineDecay(0.3, 0.1), 0.0, 0.3),
        (xr.LinearDecay(0.3, 0.1, begin=0.5), 0.5, 0.3),
        (xr.Warmup(0.3), 0.0, 0.0),
        (xr.Warmup(0.3, until=0.7), 0.7, 0.3),
        (xr.Steps([1, 0], [0.1]), math.nextafter(0.1, 0), 1),
        (xr.Steps([1, 0], [0.1]), 0.1, 0),
    ],
)
def test_ends_are_exact(schedule, progress, expected) -> None:
    """A weight of almost 0 would run the teacher for nothing."""
    assert schedule(progress) == expected


@pytest.mark.parametrize("make", [lambda value: value, xr.CosineDecay, xr.Warmup, lambda value: xr.Steps([value], [])])
@pytest.mark.parametrize("number", [np.float32(0.5), np.int64(2)])
def test_a_number_of_numpy_becomes_one_that_json_takes(make, number) -> None:
    balanced = xr.Balanced(make(number))
    for _ in range(5):
        balanced.update(1.0, 1.0)
    term = xr.Term(xr.HintLoss(), student="0", teacher="0", name="hint", weight=make(number))
    term.progress = 0.5
    assert json.loads(json.dumps([balanced.weight(0.0), term.weight]))


@pytest.mark.parametrize("value", [-1, -1e-9, math.nan, math.inf, "0.1", None, 1j])
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (xr.LinearDecay, "start"),
        (xr.CosineDecay, "start"),
        (lambda value: xr.LinearDecay(1, value), "end"),
        (lambda value: xr.CosineDecay(1, value), "end"),
        (lambda value: xr.Steps([1, value], [0.5]), "values"),
        (xr.Warmup, "to"),
    ],
)
def test_bad_value_is_named(make, named, value) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{named}={value!r}; expected a finite number >= 0")):
        make(value)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: xr.LinearDecay(1, begin=0.5, until=0.5), "[0.5, 0.5]"),
        (lambda: xr.CosineDecay(1, begin=0.6, until=0.5), "[0.6, 0.5]"),
        (lambda: xr.CosineDecay(1, begin=-0.1), "[-0.1, 1.0]"),
        (lambda: xr.LinearDecay(1, until=1.5), "[0.0, 1.5]"),
        (lambda: xr.LinearDecay(1, until=math.nan), "[0.0, nan]"),
        (lambda: xr.LinearDecay(1, begin="0.1"), "['0.1', 1.0]"),
        (lambda: xr.Steps([1, 2, 3], [0.5, 0.5]), "[0.5, 0.5]"),
        (lambda: xr.Steps([1, 2, 3], [0.5, 0.2]), "[0.5, 0.2]"),
        (lambda: xr.Steps([1, 2], [100]), "[100]"),
        (lambda: xr.Steps([1, 2], [None]), "[None]"),
        (lambda: xr.Warmup(1, until=0), "[0.0, 0]"),
        (lambda: xr.Warmup(1, until=1.1), "[0.0, 1.1]"),
        (lambda: xr.Steps([1, 2], []), "2 values with 0 changes"),
        (lambda: xr.Steps([1], [0.5]), "1 values with 1 changes"),
        (lambda: xr.Steps([], []), "0 values"),
    ],
)
def test_bad_fractions_are_named(make, named) -> None:
    with pytest.raises(ValueError, match=re.escape(named) + ".*; expected"):
        make()


@pytest.fixture
def scheduled(net, ed, cd):
    """A student with both terms, the weight of each given."""

    def make(**weights):
        student, source = net(2, norm=False), net(norm=False)
        terms = [ed(weight=weights.get("ed", 0)), cd(source, weight=weights.get("cd", 0))]
        return xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms))

    return make


def test_weight_follows_the_progress(scheduled, images) -> None:
    model = scheduled(ed=xr.LinearDecay(0.8), cd=1.0)
    reg = model.regularizer
    assert reg.progress is None
    student, source = model.student, reg.teacher.network
    s, t = (each.layer2(each.layer1(images).relu()).flatten(1) for each in (student, source))
    value = 1 - nn.functional.cosine_similarity(s, t).mean().item()
    for progress, weight in ((0, 0.8), (0.25, 0.6), (1, 0.0), (0.5, 0.4)):
        reg.progress = progress
        assert reg.progress == progress
        losses = model(images)[1]
        assert losses["ed"].item() == pytest.approx(weight * value, rel=1e-5)
        assert losses["cd"].item() > 0


@pytest.mark.parametrize("weight", [xr.LinearDecay(0.8), xr.Warmup(1.0), xr.Balanced(xr.LinearDecay(0.8))])
def test_without_progress_the_first_step_says_so(scheduled, images, weight) -> None:
    with pytest.raises(RuntimeError, match=r"(LinearDecay|Warmup)\(.*set regularizer.progress = step / steps"):
        scheduled(ed=weight)(images)


def test_constant_weights_need_no_progress(scheduled, images) -> None:
    assert set(scheduled(ed=0.1, cd=xr.Balanced())(images)[1]) == {"ed", "cd"}


@pytest.mark.parametrize("progress", [-0.1, 1.01, 5, math.nan, math.inf, -math.inf, "0.5", None])
def test_progress_out_of_range(scheduled, images, progress) -> None:
    reg = scheduled(ed=xr.LinearDecay(1.0)).regularizer
    reg.progress = 0.25
    with pytest.raises(ValueError, match=f"progress={progress!r}; expected a number from 0"):
        reg.progress = progress
    assert reg.progress == 0.25
    assert reg.terms["ed"].weight == 0.75


class Counted(nn.Module):
    """Counts the calls of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, images):
        self.calls += 1
        return self.network(images)


@pytest.mark.parametrize("balanced", [False, True])
def test_ended_terms_do_not_run_the_teacher(net, ed, cd, images, balanced) -> None:
    student, source = net(2, norm=False), net(norm=False)
    counted = Counted(source)
    ends = xr.CosineDecay(0.5, until=0.5)
    terms = [ed(weight=ends, teacher="network.layer2"), cd(source, weight=ends, teacher="network.fc")]
    if balanced:
        terms[0].set_weight(xr.Balanced(ends, every=1))
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(counted), terms)
    for progress, runs in ((0.0, 1), (0.49, 2), (0.5, 2), (0.9, 2), (1.0, 2), (0.2, 3)):
        reg.progress = progress
        student(images)
        losses = reg()
        student.zero_grad()
        reg.zero_grad()
        sum(losses.values()).backward()
        assert counted.calls == runs
        gradients = [parameter.grad for parameter in reg.parameters()]
        assert [bool(gradient.any()) for gradient in gradients] == [progress < 0.5] * 2
        if progress >= 0.5:
            assert {name: loss.item() for name, loss in losses.items()} == {"ed": 0, "cd": 0}


def fit(model: xr.Regularized, weigh) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(8):
        weigh(model.regularizer, step)
        output, losses = model(torch.randn(2, 3, 9, 11))
        optimizer.zero_grad()
        (output.square().mean() + sum(losses.values())).backward()
        optimizer.step()
    return dict(model.named_parameters())


def test_training_is_that_of_weights_set_by_hand(scheduled) -> None:
    def by_progress(reg, step) -> None:
        reg.progress = step / 8

    def by_hand(reg, step) -> None:
        reg.set_weight("ed", max(0.0, 3 * (1 - step / 4)))
        reg.set_weight("cd", 10.0 * step if step < 3 else 30.0)

    torch.manual_seed(0)
    one = fit(scheduled(ed=xr.LinearDecay(3, until=0.5), cd=xr.Warmup(30, 3 / 8)), by_progress)
    torch.manual_seed(0)
    other = fit(scheduled(ed=3.0, cd=30.0), by_hand)
    for name, parameter in one.items():
        torch.testing.assert_close(parameter, other[name], rtol=1e-6, atol=1e-7)


def test_a_schedule_may_be_set_during_training(scheduled, images) -> None:
    reg = scheduled(ed=0.5).regularizer
    reg.progress = 0.5
    reg.set_weight("ed", xr.LinearDecay(0.6))
    assert reg.terms["ed"].weight == pytest.approx(0.3)


def test_schedules_leave_nothing_in_the_checkpoint(scheduled) -> None:
    assert not scheduled(ed=xr.LinearDecay(0.5)).regularizer.state_dict()
