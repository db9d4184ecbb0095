"""The balanced weight in all situations of a training."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import xtask_reg as xr


def task(output: Tensor) -> Tensor:
    return (output.float() - 1).square().mean()


def nudge(student: nn.Module) -> None:
    """A stand-in for an optimizer's step, too small to change the gradients."""
    with torch.no_grad():
        student.fc.bias += 1e-6


def batch(step: int) -> Tensor:
    return torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(step))


@pytest.fixture
def model(net, ed, cd) -> Callable[..., xr.Regularized]:
    """Makes a student with a balanced term and one whose connector trains."""

    def make(
        every: int = 1, wrap: Callable = lambda student: student, prefix: str = "", first: float | None = None
    ) -> xr.Regularized:
        torch.manual_seed(7)
        student, source = net(2, norm=False), net(norm=False)
        student = wrap(student)
        path = prefix + "layer2"
        weights = (first, first) if first else (xr.Balanced(0.3, every), xr.Balanced(0.2))
        terms = [ed(weight=weights[0], student=path), cd(source, weight=weights[1], student=path)]
        return xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms))

    return make


def train(model: xr.Regularized, steps: range, lr: float = 0.05, call: Callable | None = None) -> list[float]:
    """Steps of SGD; the weights of the term "ed"."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    found = []
    for step in steps:
        output, losses = (call or model)(batch(step))
        found.append(model.regularizer.terms["ed"].weight)
        optimizer.zero_grad()
        (task(output) + sum(losses.values())).backward()
        optimizer.step()
    return found


def close(found: list[float], expected: list[float], rtol: float = 1e-4) -> None:
    assert expected[-1] > 0
    np.testing.assert_allclose(found, expected, rtol=rtol)


def test_bfloat16_agrees(model) -> None:
    one, other = model(), model()
    with torch.autocast("cpu", torch.bfloat16):
        found = train(one, range(12), lr=1e-6)
    close(found, train(other, range(12), lr=1e-6), rtol=0.05)


class Products(nn.Module):
    """A loss that needs both sides in one precision."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (student.flatten(1) @ teacher.flatten(1).T).float().square().mean()


def test_both_sides_keep_one_precision(net, ed) -> None:
    """In measured steps, with networks in bfloat16 throughout."""
    student, source = net(2, norm=False).bfloat16(), net(norm=False).bfloat16()
    terms = [ed(loss=Products(), weight=xr.Balanced(every=2))]
    one = xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms))
    for step in range(8):
        output, losses = one(batch(step).bfloat16())
        (task(output.float()) + losses["ed"]).backward()
        student.fc.bias.data += 0.1
    assert terms[0].weight > 0


class Tiny(nn.Module):
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return 1e-6 * (student.float() - teacher.float()).square().mean()


def test_float16_does_not_lose_small_gradients(net, ed) -> None:
    """Before the loss scale the term's gradient is too small for float16; it is measured in float32."""
    found = []
    for enabled in (True, False):
        torch.manual_seed(7)
        student, source = net(2, norm=False), net(norm=False)
        terms = [ed(weight=xr.Balanced(0.3, every=1), loss=Tiny())]
        reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms)
        for step in range(7):
            with torch.autocast("cpu", torch.float16, enabled=enabled):
                output = student(batch(step))
                loss = task(output) + reg()["ed"]
            (1024 * loss).backward()
        found.append(reg.terms["ed"].weight)
    assert found[0] == pytest.approx(found[1], rel=0.05)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("where", ["task", "term", "both"])
def test_overflow_is_left_out(model, bad, where) -> None:
    """Gradients that overflow under a loss scale: the optimizer skips the step, and so does the balance."""
    one, other = model(), model()
    for step in range(9):
        for each in (one, other):
            output, losses = each(batch(step))
            overflows = each is one and step in (2, 6)
            factors = {part: bad if overflows and where in (part, "both") else 1.0 for part in ("task", "term")}
            if overflows or step not in (2, 6):
                (factors["task"] * task(output) + factors["term"] * sum(losses.values())).backward()
            nudge(each.student)
    expected = other.regularizer.terms["ed"].weighting
    found = one.regularizer.terms["ed"].weighting
    assert found.measurements == expected.measurements == 6
    assert found.weight(None) == pytest.approx(expected.weight(None)) != 0


def test_step_without_backward_leaves_nothing(model) -> None:
    one = model()
    train(one, range(3))
    before = one.regularizer.terms["ed"].weighting.measurements
    for _ in range(3):
        one(batch(0))
        one.student(batch(0))
    one(batch(1))
    assert one.regularizer.terms["ed"].weighting.measurements == before + 1  # that of the last trained step
    assert one.regularizer.report["weight/ed"] == 0


def test_validation_in_between_changes_nothing(model) -> None:
    """Calls without gradients are not steps: they neither measure nor count."""
    one, other = model(every=3), model(every=3)
    expected, found = train(other, range(12)), []
    for step in range(12):
        found += train(one, range(step, step + 1))
        with torch.no_grad():
            for _ in range(2):
                assert set(one(batch(99))[1]) == {"ed", "cd"}
    close(found, expected, rtol=1e-6)


def test_features_without_hooks(model) -> None:
    one, other = model(), model()
    expected = train(other, range(9))
    one.regularizer.remove()
    apart = xr.CrossTaskRegularizer(None, one.regularizer.teacher, list(one.regularizer.terms.values()))

    def call(images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        tap = one.student.layer2(one.student.layer1(images).relu())
        output = one.student.fc(one.student.relu(tap).mean(dim=(2, 3)))
        return output, apart(images, {"layer2": tap})

    tap_before_the_inplace_relu = one.student.relu
    tap_before_the_inplace_relu.inplace = False
    one.regularizer = apart
    close(train(one, range(9), call=call), expected)


@pytest.mark.parametrize("dynamic", [False, None])
def test_compiled_student(model, dynamic) -> None:
    torch.compiler.reset()
    one, other = model(), model()
    compiled = torch.compile(one.student, backend="aot_eager", dynamic=dynamic)
    found = train(one, range(9), call=lambda images: (compiled(images), one.regularizer()))
    close(found, train(other, range(9)))


def test_compiled_before_the_weight_is_balanced(model) -> None:
    torch.compiler.reset()
    one, other = model(first=0.1), model(first=0.1)
    compiled = torch.compile(one.student, backend="aot_eager")
    call = {one: lambda images: (compiled(images), one.regularizer()), other: None}
    found = {}
    for each in (one, other):
        train(each, range(2), call=call[each])
        each.regularizer.set_weight("ed", xr.Balanced(0.3, every=1))
        found[each] = train(each, range(2, 11), call=call[each])
    close(found[one], found[other])


class Checkpointed(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        features = checkpoint(lambda x: self.net.layer2(self.net.layer1(x).relu()), images, use_reentrant=False)
        return self.net.fc(self.net.relu(features).mean(dim=(2, 3)))


def test_tap_in_a_checkpointed_part(model) -> None:
    close(train(model(wrap=Checkpointed, prefix="net."), range(9)), train(model(), range(9)))


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("saved", [3, 4, 5, 10, 13])
def test_resumes_exactly(model, saved, every) -> None:
    """Also right after a measured step, whose measurement would be read in the next one."""
    whole, first, second = model(every), model(every), model(every)
    train(whole, range(20))
    train(first, range(saved))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True), strict=True)
    train(second, range(saved, 20))
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[key]), key


def test_checkpoint_between_forward_and_backward_takes_nothing(model) -> None:
    one, other = model(), model()
    found = train(one, range(8), call=lambda images: (one(images), one.state_dict())[0])
    close(found, train(other, range(8)), rtol=1e-6)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("when", ["between steps", "student called", "before backward"])
def test_copies_go_on_by_themselves(model, how, when) -> None:
    one, other = model(every=4), model(every=4)
    expected = train(other, range(16))
    found = train(one, range(6))
    output, losses = None, None
    if when == "student called":
        one.student(batch(0))
    elif when == "before backward":
        output, losses = one(batch(6))
    copied = COPIES[how](one)
    if losses is None:
        close(train(copied, range(6, 16)), expected[6:], rtol=1e-6)
        close(found + train(one, range(6, 16)), expected, rtol=1e-6)
    else:
        (task(output) + sum(losses.values())).backward()
        assert train(copied, range(7, 12))[-1] > 0
        assert train(one, range(7, 12))[-1] > 0


def test_memory_is_flat(model) -> None:
    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    one = model(every=2)
    train(one, range(9))
    before = tensors()
    train(one, range(40))
    assert tensors() <= before
