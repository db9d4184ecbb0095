"""The cost of balancing, what it must not change, and its errors for bad options."""

from __future__ import annotations

import copy
import gc
import math
import random
import re
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn

import xtask_reg as xr


class Counting(nn.Module):
    """A loss and networks that count how often they run, and how often they are differentiated."""

    def __init__(self, inner: nn.Module, counts: Counter, name: str) -> None:
        super().__init__()
        self.inner, self.counts, self.name = inner, counts, name

    def forward(self, *inputs: Tensor) -> Tensor:
        self.counts[self.name] += 1
        output = self.inner(*inputs)
        if output.requires_grad:
            output.register_hook(lambda gradient: self.counts.update({f"{self.name} differentiated": 1}))
        return output


@pytest.fixture
def build(net, ed):
    def make(*terms: xr.Term, monitor: xr.Monitor | None = None, **changes) -> xr.Regularized:
        torch.manual_seed(7)
        student, source = net(2, norm=False), net(norm=False)
        terms = terms or (ed(**changes),)
        return xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms, monitor))

    return make


def step(model: xr.Regularized, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Tensor]:
    output, losses = model(torch.randn(2, 3, 9, 11))
    model.zero_grad()
    ((output - 1).square().mean() + sum(losses.values())).backward()
    if optimizer:
        optimizer.step()
    else:
        with torch.no_grad():
            model.student.fc.bias += 1e-6  # as a step would: else the student counts as measured already
    return losses


@pytest.mark.parametrize("every", [1, 3])
def test_measured_steps_differentiate_the_loss_once_more_and_run_nothing_again(build, every) -> None:
    counts: Counter[str] = Counter()
    loss = Counting(xr.CosineAlignmentLoss(), counts, "loss")
    model = build(loss=loss, weight=xr.Balanced(0.3, every))
    for name, module in (("student", model.student), ("teacher", model.regularizer.teacher.network)):
        module.layer1.register_forward_hook(lambda *unused, name=name: counts.update({name: 1}))
    model.student.layer1[0].weight.register_hook(lambda gradient: counts.update({"student back": 1}))
    for number in range(12):
        counts.clear()
        step(model)
        measured = number < 5 or number % every == 0
        once = {"loss": 1, "student": 1, "teacher": 1, "student back": 1}
        assert counts == {**once, "loss differentiated": 2 if measured else 1}, number


def test_random_state_is_left_alone(net, ed, images) -> None:
    """A student with dropout and batch norm gets the same random numbers; only the gradients differ."""
    states = []
    for weight in (None, xr.Balanced(0.3, every=2)):
        torch.manual_seed(3)
        student, source = net(2), net()
        terms = [] if weight is None else [ed(weight=weight)]
        model = xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms))
        for _ in range(8):
            step(model)
        states.append((torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()))
    assert states[0] == states[1]


def test_balancing_alone_trains_bitwise_as_without_until_it_weighs(net, ed) -> None:
    parameters = []
    for weight in (0, xr.Balanced(0.3)):
        torch.manual_seed(3)
        student, source = net(2), net()
        reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [ed(weight=weight)])
        model = xr.Regularized(student, reg)
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(5):
            step(model, optimizer)
        parameters.append(list(student.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(*parameters, strict=True))


@pytest.mark.parametrize("loss", [xr.CosineAlignmentLoss(), nn.MSELoss()])
def test_student_that_starts_as_its_source(net, ed, loss) -> None:
    """At first the term's gradient is 0 or rounding error, which must not determine its weight."""
    source = net(2, norm=False)
    student = copy.deepcopy(source)
    terms = [ed(loss=loss, weight=xr.Balanced(0.3))]
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms, xr.Monitor([], every=1))
    model = xr.Regularized(student, reg)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
    ratios = []
    for _ in range(100):
        step(model, optimizer)
        ratios.append(reg.report["ratio/ed"])
        assert math.isfinite(reg.terms["ed"].weight)
    assert not any(ratios[:5])
    assert 0.05 < np.median(ratios[5:]) < 1.5
    assert max(ratios) < 5
    assert all(parameter.isfinite().all() for parameter in student.parameters())


def test_teacher_equal_to_the_student_for_good(net, ed) -> None:
    """Nothing to balance: the term's gradient is exactly 0 in every step."""
    student = net(2, norm=False)
    teacher = xr.FrozenTeacher(copy.deepcopy(student))
    terms = [ed(loss=nn.MSELoss(), weight=xr.Balanced())]
    model = xr.Regularized(student, xr.CrossTaskRegularizer(student, teacher, terms))
    for _ in range(8):
        assert step(model)["ed"].item() == 0
    assert model.regularizer.terms["ed"].weight == 0


@pytest.mark.parametrize(
    ("norms", "weight"),
    [
        ([(1, 0), (1, 0), (1, 1), (2, 1), (3, 1)], 3.0),
        ([(1, 0), (1, 0), (1, 0), (2, 1), (3, 1)], 0.0),
        ([(0, 1), (0, 1), (0, 1), (2, 1), (3, 1)], 0.0),
        ([(4, 2)] * 4, 0.0),
        ([(4, 2)] * 5, 2.0),
    ],
)
def test_measurements_without_a_gradient(norms, weight) -> None:
    """Without a gradient of the term no weight is large enough; without one of the task none is small enough."""
    balanced = xr.Balanced(1.0)
    for task_norm, term_norm in norms:
        balanced.update(float(task_norm), float(term_norm))
    assert balanced.weight(None) == weight


def test_graph_is_not_kept_after_a_measured_step(build) -> None:
    model = build(weight=xr.Balanced(), monitor=xr.Monitor(["layer1"], every=1))
    images = torch.randn(2, 3, 9, 11)
    kept = weakref.ref(images)
    output, losses = model(images)
    del images, output, losses
    gc.collect()
    assert kept() is None


class Fails(nn.Module):
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        raise RuntimeError("out of memory")


def test_graph_is_not_kept_where_a_term_fails(build, ed) -> None:
    """Else a second try with fewer images would have both graphs in memory."""
    model = build(ed(weight=xr.Balanced()), ed(loss=Fails(), name="fails"), monitor=xr.Monitor([], every=1))
    images = torch.randn(2, 3, 9, 11)
    kept = weakref.ref(images)
    with pytest.raises(RuntimeError, match="out of memory"):
        model(images)
    del images
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("connector", [False, True])
def test_frozen_tap_warns_and_weighs_nothing(build, cd, net, connector) -> None:
    model = build(*([cd(net(norm=False), weight=xr.Balanced())] if connector else []), weight=xr.Balanced())
    model.student.layer1.requires_grad_(False)
    model.student.layer2.requires_grad_(False)
    with pytest.warns(UserWarning, match="cannot act on the student: its tap 'layer2' carries no gradient"):
        step(model)
    for _ in range(7):
        assert [loss.item() for loss in step(model).values()] == [0]


class OfTheConnectorAlone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(features.detach())


def test_loss_that_does_not_reach_the_tap(build) -> None:
    model = build(student_connector=OfTheConnectorAlone(), weight=xr.Balanced())
    for _ in range(7):
        assert step(model)["ed"].item() == 0


def train(model: xr.Regularized, images: Tensor, apart: bool = False) -> None:
    """Steps in which the task does not use the student's layers, or its backward pass precedes the term."""
    for _ in range(7):
        output = model.student(images)
        if apart:
            output.square().sum().backward(retain_graph=True)
        (model.student.fc.bias.square().sum() + sum(model.regularizer().values())).backward()
        with torch.no_grad():
            model.student.fc.bias += 1e-6


@pytest.mark.parametrize("apart", [False, True])
def test_term_beside_which_nothing_is_seen(build, images, apart) -> None:
    model = build(weight=xr.Balanced())
    said = "'ed' weighs nothing: no other loss has a gradient at its tap 'layer2'"
    with pytest.warns(UserWarning, match=said) as caught:
        train(model, images, apart)
    assert len(caught) == 1
    assert model.regularizer.terms["ed"].weight == 0


def train_in_bfloat16(model: xr.Regularized) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(7):
            step(model)


def test_term_beside_which_the_task_is_rounding(build, ed) -> None:
    """The rounding error is that of another term at the tap."""
    heavy = xr.Term(xr.HintLoss(), student="layer2", teacher="layer2", weight=1e5, name="heavy")
    model = build(ed(weight=xr.Balanced()), heavy)
    with pytest.warns(UserWarning, match="'ed' weighs nothing: .*, or none above the rounding error of the terms' own"):
        train_in_bfloat16(model)
    assert model.regularizer.terms["ed"].weight == 0


@pytest.mark.parametrize("loss", [xr.AttentionTransferLoss(), xr.ChannelWiseLoss(), xr.LocalSimilarityLoss()])
def test_map_of_a_single_cell_has_nothing_to_compare(build, loss) -> None:
    model = build(loss=loss, weight=xr.Balanced())
    with pytest.warns(UserWarning, match="'ed' weighs nothing: it has no gradient at its tap 'layer2' .a map of"):
        train(model, torch.randn(2, 3, 4, 4), apart=True)


def test_term_left_out_of_the_total(build) -> None:
    model = build(weight=xr.Balanced(every=1))
    for _ in range(7):
        output, losses = model(torch.randn(2, 3, 9, 11))
        output.sum().backward()
        assert losses["ed"].item() == 0


def test_weight_may_become_balanced_during_training(build) -> None:
    model = build(weight=0.5)
    step(model)
    model.regularizer.set_weight("ed", xr.Balanced(0.3, every=1))
    values = [step(model)["ed"].item() for _ in range(7)]
    assert [value > 0 for value in values] == [False] * 5 + [True] * 2
    assert list(model.regularizer.state_dict()) == ["terms.ed.weighting._extra_state"]
    model.regularizer.set_weight("ed", 0.5)
    assert not model.regularizer.state_dict()
    assert step(model)["ed"].item() > 0


def test_a_copy_has_all_measurements(build) -> None:
    """Also that of the last step, which the original takes over when the next one begins."""
    model = build(weight=xr.Balanced(0.3, every=1))
    for _ in range(6):
        step(model)
    assert copy.deepcopy(model).regularizer.terms["ed"].weighting.measurements == 6


@pytest.mark.filterwarnings("ignore:.*assum.*single process")
def test_resumed_through_a_distributed_checkpoint(build, tmp_path) -> None:
    """It loads into existing tensors of the same sizes, and so into a balance without measurements."""
    first, second = (build(weight=xr.Balanced(0.3, every=1)) for _ in range(2))
    for _ in range(8):
        step(first)
    dcp.save(first.regularizer.state_dict(), checkpoint_id=tmp_path)
    state = second.regularizer.state_dict()
    dcp.load(state, checkpoint_id=tmp_path)
    second.regularizer.load_state_dict(state)
    assert second.regularizer.terms["ed"].weight == first.regularizer.terms["ed"].weight > 0


def test_state_that_ends_with_what_was_measured() -> None:
    balanced = xr.Balanced(1.0)
    balanced.set_extra_state(torch.tensor([9.0, 6.0, 2.0, 3.0, 4.0]))
    assert (balanced.steps, balanced.measurements, balanced.weight(None)) == (9, 6, 3.0)
    balanced.update(0.0, 1.0)  # nothing beside the term
    again = xr.Balanced(1.0)
    again.set_extra_state(balanced.get_extra_state())
    assert again.quotients == balanced.quotients == [2.0, 3.0, 4.0, 0.0]


def test_balanced_zero_is_left_out(build) -> None:
    model = build(weight=xr.Balanced(0))
    assert step(model) == {}
    assert not any(module._forward_hooks for module in model.student.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": -1}, "ratio=-1; expected a finite number >= 0"),
        ({"ratio": math.nan}, "ratio=nan"),
        ({"ratio": "0.1"}, "ratio='0.1'"),
        ({"every": 0}, "every=0; expected a whole number above 0"),
        ({"every": 2.0}, "every=2.0;"),
        ({"every": True}, "every=True;"),
        ({"window": 0}, "window=0; expected a whole number above 0"),
        ({"window": 2.5}, "window=2.5;"),
        ({"window": None}, "window=None;"),
        ({"calibrate": 4}, "calibrate=4; expected a number of measurements, at least 5, or None"),
        ({"calibrate": 10.0}, "calibrate=10.0;"),
    ],
)
def test_bad_option_is_named(options, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        xr.Balanced(**options)


def test_it_shows_itself(ed) -> None:
    assert "Balanced(ratio=0.2, every=3, window=6, calibrate=7)" in repr(ed(weight=xr.Balanced(0.2, 3, 6, 7)))


def test_one_object_for_two_terms(net, ed) -> None:
    shared, student, teacher = xr.Balanced(0.1), net(2), xr.FrozenTeacher(net())
    with pytest.raises(ValueError, match="several terms share one Balanced object"):
        xr.CrossTaskRegularizer(student, teacher, [ed(weight=shared, name=name) for name in "ab"])
    keep = xr.CrossTaskRegularizer(student, teacher, [ed(weight=shared, name="a"), ed(weight=1.0, name="b")])
    keep.set_weight("a", shared)
    with pytest.raises(ValueError, match="several terms share one Balanced object"):
        keep.set_weight("b", shared)
    assert keep.terms["b"].weight == 1
