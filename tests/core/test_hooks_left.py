"""A regularizer that no longer exists leaves no hooks on the student."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import xtask_reg as xr


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """Hooks must go without the garbage collector, which in a notebook may not run for long."""
    gc.disable()
    yield
    gc.enable()


def hooks(student: nn.Module) -> int:
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in student.modules())


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "average": lambda model: torch.optim.swa_utils.AveragedModel(model).module,
}
WEIGHTS = {"constant": 0.5, "balanced": xr.Balanced(0.1, every=1)}


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_cell_that_is_run_again(net, ed, images, weight) -> None:
    student, source = net(2, norm=False), net(norm=False)
    handle = student.layer1.register_forward_hook(lambda *unused: None)
    counts, found = [], []
    for _ in range(4):
        monitor = xr.Monitor(every=1, stages=["layer1"])
        term = ed(weight=copy.deepcopy(WEIGHTS[weight]))
        keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term], monitor)
        for _ in range(2):
            (student(images).square().mean() + sum(keep().values())).backward()
        counts.append(hooks(student))
        student(images)
        found.append({name: loss.item() for name, loss in keep().items()})
    assert counts == [counts[0]] * 4
    assert found == [pytest.approx(found[0])] * 4
    del keep
    assert hooks(student) == 1
    handle.remove()


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("gone", ["the original", "the copy"])
def test_hooks_of_the_other_stay(plain, images, expected, values, how, gone) -> None:
    plain(images)
    copied = COPIES[how](plain)
    left, other = (copied, plain) if gone == "the original" else (plain, copied)
    before, student = hooks(left.student), other.student
    other.regularizer = None
    assert hooks(student) == 0
    assert hooks(left.student) == before > 0
    assert expected(left, images) == values(left(images)[1])


@pytest.mark.parametrize("how", [copy.copy, *COPIES.values()], ids=["copy", *COPIES])
def test_copy_of_the_regularizer_alone_takes_nothing_along(plain, images, expected, values, how) -> None:
    how(plain.regularizer)
    assert expected(plain, images) == values(plain(images)[1])


def test_shallow_copy_keeps_them(plain, images, expected, values) -> None:
    copied = copy.copy(plain.regularizer)
    plain.regularizer = None
    plain.regularizer = copied
    assert expected(plain, images) == values(plain(images)[1])


def test_one_that_could_not_be_made_leaves_none(net, ed) -> None:
    student = net(2)
    with pytest.raises(ValueError, match="no submodule"):
        xr.CrossTaskRegularizer(student, xr.FrozenTeacher(net()), [ed(), ed(student="layer9", name="other")])
    assert hooks(student) == 0
