"""The balanced weight compared with separately computed gradients, and what it must not depend on."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr

STEPS = 14


@pytest.fixture
def balanced(net, ed) -> Callable[..., xr.Regularized]:
    """A student without norm and dropout, with one balanced term (or those that are given)."""

    def make(weight: xr.Balanced | None = None, *terms: xr.Term, inplace: bool = True, **changes) -> xr.Regularized:
        torch.manual_seed(7)
        student, source = net(2, norm=False, inplace=inplace), net(norm=False)
        terms = terms or (ed(weight=weight or xr.Balanced(0.3, every=1), **changes),)
        return xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms))

    return make


def task(output: Tensor) -> Tensor:
    return (output - 1).square().mean()


def batches(count: int = STEPS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(2, 3, 9, 11, generator=generator) for _ in range(count)]


def nudge(student: nn.Module) -> None:
    """A stand-in for an optimizer's step, without which early measurements do not count; it changes no gradient."""
    with torch.no_grad():
        student.fc.bias += 1e-6


def weights(model: xr.Regularized, backward: Callable = Tensor.backward, scale: float = 1.0) -> list[float]:
    """The weight of the term in each step; nothing is trained, so that all runs see the same gradients."""
    found = []
    for images in batches():
        output, losses = model(images)
        found.append(model.regularizer.terms["ed"].weight)
        model.zero_grad()
        backward(scale * task(output) + sum(losses.values()))
        nudge(model.student)
    return found


def walked(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The tap and the output of a network, walked by hand."""
    tap = net.layer2(net.layer1(images).relu())
    return tap, net.fc(tap.relu().mean(dim=(2, 3)))


def norms_at_the_tap(student: nn.Module, source: nn.Module, images: Tensor) -> tuple[float, float]:
    """The gradient norms of the task and of the cosine term, by torch.autograd.grad."""
    tap, output = walked(student, images)
    target = walked(source, images)[0].detach()
    term = 1 - nn.functional.cosine_similarity(tap.flatten(1), target.flatten(1)).mean()
    return tuple(torch.autograd.grad(loss, tap, retain_graph=True)[0].norm().item() for loss in (task(output), term))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("window", [1, 4, 5, 7, 100])
@pytest.mark.parametrize("calibrate", [None, 5, 6])
def test_weight_is_the_median_of_the_last_quotients(balanced, every, window, calibrate) -> None:
    model = balanced(xr.Balanced(0.3, every, window, calibrate))
    term = model.regularizer.terms["ed"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    measured: list[float] = []
    for step, images in enumerate(batches()):
        norms = norms_at_the_tap(model.student, model.regularizer.teacher.network, images)
        output, losses = model(images)
        expected = 0.0
        if len(measured) >= 5:
            expected = 0.3 * np.median(measured[-window:])
        assert term.weight == pytest.approx(expected, rel=1e-5)
        if (step < 5 or step % every == 0) and (calibrate is None or len(measured) < calibrate):
            measured.append(norms[0] / norms[1])
        optimizer.zero_grad()
        (task(output) + sum(losses.values())).backward()
        optimizer.step()


def test_the_first_five_states_weigh_nothing(balanced) -> None:
    model = balanced()
    for step, images in enumerate(batches(7)):
        output, losses = model(images)
        task(output).backward(retain_graph=True)
        before = [parameter.grad.clone() for parameter in model.student.parameters()]
        losses["ed"].backward()
        changed = any(not torch.equal(a, b.grad) for a, b in zip(before, model.student.parameters(), strict=True))
        assert changed is (losses["ed"].item() > 0) is (step >= 5)
        model.zero_grad()
        nudge(model.student)


@pytest.mark.parametrize("accumulated", [2, 8])
def test_a_student_that_has_not_moved_is_measured_once(balanced, accumulated) -> None:
    model = balanced()
    for step, images in enumerate(batches(7 * accumulated)):
        output, losses = model(images)
        assert (model.regularizer.terms["ed"].weight > 0) is (step > 4 * accumulated)
        (task(output) + losses["ed"]).backward()
        if (step + 1) % accumulated == 0:
            nudge(model.student)


@pytest.mark.parametrize("accumulated", [1, 8])
@pytest.mark.parametrize("lr", [0.05, 0.2])
def test_accumulating_from_the_source_on_does_not_explode(net, ed, accumulated, lr) -> None:
    """Student and source are equal at first: the term's gradient is rounding noise until the optimizer's first step."""
    student = net(2, norm=False)
    source = net(2, norm=False)
    source.load_state_dict(student.state_dict())
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [ed(weight=xr.Balanced(0.1))], xr.Monitor([], 1))
    optimizer = torch.optim.SGD(student.parameters(), lr=lr)
    ratios = []
    for step in range(20 * accumulated):
        loss = task(student(batches(1)[0] + 0.1 * step / accumulated)) + sum(reg().values())
        (loss / accumulated).backward()
        ratios.append(reg.report["ratio/ed"])
        if (step + 1) % accumulated == 0:
            optimizer.step()
            optimizer.zero_grad()
    assert 0 < max(ratios) < 3


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("calls", [1, 2, 5])
def test_weight_follows_where_several_calls_share_a_backward_pass(balanced, every, calls) -> None:
    """Two views of an image, each read: the backward pass comes after a call that is not measured."""
    model = balanced(xr.Balanced(0.3, every, window=1))
    images, *_ = batches(1)
    for scale in [1.0] * 7 + [100.0] * 7:
        total = torch.zeros(())
        for _ in range(calls):
            output, losses = model(images)
            total = total + scale * task(output) + losses["ed"]
        total.backward()
        nudge(model.student)
    model(images)
    norms = norms_at_the_tap(model.student, model.regularizer.teacher.network, images)
    assert model.regularizer.terms["ed"].weight == pytest.approx(0.3 * 100 * norms[0] / norms[1], rel=1e-4)


def test_gradient_that_acts_has_the_ratio(balanced) -> None:
    """With the same batch in each step, the weight is exact."""
    model = balanced(xr.Balanced(0.25, every=1))
    images = batches(1)[0]
    for _ in range(7):
        output, losses = model(images)
        (task(output) + losses["ed"]).backward()
        nudge(model.student)
    task_norm, term_norm = norms_at_the_tap(model.student, model.regularizer.teacher.network, images)
    assert model.regularizer.terms["ed"].weight * term_norm == pytest.approx(0.25 * task_norm, rel=1e-4)


def test_ratio_may_be_a_schedule(balanced) -> None:
    constant, changing = balanced(xr.Balanced(1.0, every=1)), balanced(xr.Balanced(xr.LinearDecay(0.8), every=1))
    expected, found = weights(constant), []
    for step, images in enumerate(batches()):
        changing.regularizer.progress = step / STEPS
        output, losses = changing(images)
        found.append(changing.regularizer.terms["ed"].weight)
        (task(output) + losses["ed"]).backward()
        nudge(changing.student)
    np.testing.assert_allclose(found, np.array(expected) * 0.8 * (1 - np.arange(STEPS) / STEPS), rtol=1e-5)


@pytest.mark.parametrize("factor", [1e4, 1e-4])
def test_weight_follows_the_scale_of_the_task(balanced, factor) -> None:
    np.testing.assert_allclose(weights(balanced(), scale=factor), factor * np.array(weights(balanced())), rtol=1e-3)


SCALES = {
    "loss scale": lambda loss: (65536 * loss).backward(),
    "accumulated steps": lambda loss: (loss / 4).backward(),
    "gradient given": lambda loss: loss.backward(torch.tensor(3.0)),
    "by autograd.grad": lambda loss: None,
    "two backward passes": lambda loss: [(0.25 * loss).backward(retain_graph=True), (0.75 * loss).backward()],
}


@pytest.mark.parametrize("how", SCALES)
def test_weight_does_not_depend_on_the_scale_of_the_total(balanced, how) -> None:
    model = balanced()

    def backward(loss: Tensor) -> None:
        if how == "by autograd.grad":
            torch.autograd.grad(loss, list(model.student.parameters()))
        SCALES[how](loss)

    found = weights(model, backward)
    assert found[5] > 0
    np.testing.assert_allclose(found, weights(balanced()), rtol=1e-4)


def test_task_and_terms_may_go_backward_apart(balanced) -> None:
    model, found = balanced(), []
    for images in batches():
        output, losses = model(images)
        found.append(model.regularizer.terms["ed"].weight)
        task(output).backward(retain_graph=True)
        losses["ed"].backward()
        nudge(model.student)
    np.testing.assert_allclose(found, weights(balanced()), rtol=1e-5)


@pytest.mark.parametrize("times", [2, 5])
def test_weight_does_not_depend_on_the_batch_size(balanced, times, monkeypatch) -> None:
    expected = weights(balanced())
    model = balanced()
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda images: forward(images.repeat(times, 1, 1, 1)))
    np.testing.assert_allclose(weights(model), expected, rtol=1e-4)


@pytest.mark.parametrize("factor", [5.0, 0.2])
def test_weighting_once_more_outside_is_seen(balanced, factor) -> None:
    """The effective gradient stays at the ratio; the gradients of task and term are not confused."""
    model, found = balanced(), []
    for images in batches():
        output, losses = model(images)
        found.append(factor * model.regularizer.terms["ed"].weight)
        (task(output) + factor * losses["ed"]).backward()
        nudge(model.student)
    np.testing.assert_allclose(found, weights(balanced()), rtol=1e-4)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("neighbour", ["constant", "balanced", "balanced, rarely"])
def test_neighbour_at_the_same_tap_is_not_the_task(balanced, ed, neighbour, order) -> None:
    """The neighbour is much stronger than the task, and does not change the weight."""
    other = {"constant": 50.0, "balanced": xr.Balanced(20, every=1), "balanced, rarely": xr.Balanced(20, every=4)}
    terms = [ed(weight=xr.Balanced(0.3, every=1)), ed(weight=other[neighbour], name="b", loss=Squared())]
    np.testing.assert_allclose(weights(balanced(None, *terms[::order])), weights(balanced()), rtol=1e-3)


def test_deeper_terms_are_part_of_all_else(balanced, ed) -> None:
    """The gradient of a term at a later layer belongs to the rest, like the task's."""
    deeper = ed(weight=2.0, name="fc", student="fc", teacher=None, loss=Size())
    found = weights(balanced(None, ed(weight=xr.Balanced(0.3, every=1)), deeper))
    model, expected = balanced(), []
    for images in batches():
        output, losses = model(images)
        expected.append(model.regularizer.terms["ed"].weight)
        (task(output) + losses["ed"] + 2.0 * output.square().sum()).backward()
        nudge(model.student)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


class Squared(nn.Module):
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (student - teacher).square().mean()


class Size(nn.Module):
    def forward(self, student: Tensor) -> Tensor:
        return student.square().sum()


@pytest.mark.parametrize("path", ["relu", "layer2", "layer2.0", "layer1", "fc"])
@pytest.mark.parametrize("inplace", [True, False])
def test_inplace_activations_change_nothing(balanced, path, inplace) -> None:
    model = balanced(inplace=inplace, student=path, teacher=path if path != "fc" else "layer2", loss=OfItself())
    term, (images, *_) = model.regularizer.terms["ed"], batches(1)
    for _ in range(6):  # the sixth step reads the fifth measurement
        output, losses = model(images)
        (task(output) + losses["ed"]).backward()
        nudge(model.student)
    plain = copy.deepcopy(model.student)
    before = plain.layer1(images)
    middle = plain.layer2(before.relu())
    after = middle.relu()
    output = plain.fc(after.mean(dim=(2, 3)))
    tap = {"relu": after, "layer1": before, "fc": output}.get(path, middle)
    both = task(output), OfItself()(tap, tap)
    norms = [torch.autograd.grad(loss, tap, retain_graph=True)[0].norm().item() for loss in both]
    assert term.weight == pytest.approx(0.3 * norms[0] / norms[1], rel=1e-4)


class OfItself(nn.Module):
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return student.pow(4).mean()


def test_a_gradient_penalty_s_own_pass_is_none_of_the_training_s(balanced) -> None:
    """That pass has gradients a thousand times as large; the penalty itself has no weight."""

    def run(looks: bool) -> list[float]:
        model, found = balanced(), []
        for images in batches(8):
            output, losses = model(images.requires_grad_())
            found.append(model.regularizer.terms["ed"].weight)
            total = task(output) + sum(losses.values())
            if looks:
                (gradient,) = torch.autograd.grad(1000 * output.sum(), images, create_graph=True)
                total = total + 0 * gradient.square().sum()
            total.backward()
            nudge(model.student)
        return found

    assert run(True) == pytest.approx(run(False))
    assert run(True)[-1] > 0


def test_a_training_pass_that_makes_a_graph_counts(balanced) -> None:
    """As with second-order optimizers."""
    with_graph = weights(balanced(), lambda total: total.backward(create_graph=True))
    assert with_graph == pytest.approx(weights(balanced()))
    assert with_graph[-1] > 0


class Turned(nn.Module):
    """Returns a view of a convolution's output, which is then changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.turn = nn.Conv2d(3, 4, 3), Turn()

    def forward(self, images: Tensor) -> Tensor:
        return self.turn(self.conv(images)).relu_()


class Turn(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.permute(0, 1, 3, 2)


@pytest.mark.parametrize(
    ("weight", "monitor", "fails"),
    [(0.5, None, False), (xr.Balanced(0.3), None, True), (0.5, xr.Monitor(stages=["turn"]), True)],
)
def test_a_view_that_is_changed_in_place(ed, weight, monitor, fails) -> None:
    student, source = Turned(), Turned()
    term = ed(weight=weight, student="turn", teacher="turn", loss=xr.HintLoss())
    regularizer = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term], monitor)
    images = batches(1)[0]
    student(images)
    if fails:
        with pytest.raises(xr.TapError, match="'turn' gives a view that is changed in place after it"):
            regularizer()
    else:
        expected = (student.conv(images) - source.conv(images)).square().mean() / 2
        torch.testing.assert_close(regularizer()["ed"], weight * expected)
