"""A warning if a term carries over what it learned with another student, and none otherwise."""

from __future__ import annotations

import gc
import warnings

import pytest
import torch

import xtask_reg as xr

BROUGHT = {
    "connectors": "the parameters of its connectors",
    "balanced": "what its balanced weight has measured",
    "ended": "a weight that was set to 0",
    "frozen connectors": None,
    "a number": None,
}


def term(kind: str, ed) -> xr.Term:
    connectors = {"student_connector": xr.Projection(6, 6), "teacher_connector": xr.Projection(6, 6)}
    if kind == "balanced":
        return ed(weight=xr.Balanced(0.1))
    if kind == "connectors":
        return ed(**connectors)
    return ed(**connectors).requires_grad_(False) if kind == "frozen connectors" else ed()


def trained(student, source, terms, images) -> list[str]:
    """The warnings of two steps."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms)
        optimizer = torch.optim.SGD([*student.parameters(), *keep.parameters()], lr=0.1)
        for _ in range(2):
            loss = student(images).square().mean()
            sum(keep().values(), loss).backward()
            optimizer.step()
    return [str(each.message) for each in caught if "another student" in str(each.message)]


@pytest.mark.parametrize("kind", BROUGHT)
@pytest.mark.parametrize("kept_alive", [True, False])
def test_the_next_fold(net, ed, images, kind, kept_alive):
    terms, students = [term(kind, ed)], [net()]
    assert trained(students[0], net(), terms, images) == []
    if kind == "ended":
        terms[0].set_weight(0.0)
    if not kept_alive:
        students.clear()
        gc.collect()
    found = trained(net(), net(), terms, images)
    expected = BROUGHT[kind]
    assert len(found) == (expected is not None)
    assert all(f"term 'ed' was used with another student and still has {expected}: make" in each for each in found)


@pytest.mark.parametrize("kind", BROUGHT)
def test_the_same_student_again(net, ed, images, kind):
    student, terms = net(), [term(kind, ed)]
    trained(student, net(), terms, images)
    assert trained(torch.nn.DataParallel(student).module, net(), terms, images) == []


def test_a_weight_that_was_0_from_the_beginning(net, ed, images):
    terms = [ed(weight=0.0)]
    assert trained(net(), net(), terms, images) == trained(net(), net(), terms, images) == []
