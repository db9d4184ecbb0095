"""Copies and files of a model between two steps."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import xtask_reg as xr


def saved(model: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.save(model, file)
    return file.getvalue()


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": lambda model: torch.load(io.BytesIO(saved(model)), weights_only=False),
}
each_copy = pytest.mark.parametrize("how", COPIES)


@each_copy
def test_regularized_between_steps(model, images, expected, numbers, seeded, step, how) -> None:
    """deepcopy, pickle or torch.save(model) mixes up the taps: here both train on separately, with the right values."""
    step(model, images)
    copied = COPIES[how](model)
    for one, other in ((model, copied), (copied, model)):
        before = copy.deepcopy(other.state_dict())
        for _ in range(2):
            wanted = expected(one, images)
            assert numbers(seeded(one, images)[1]) == wanted
            step(one, images)
        torch.testing.assert_close(other.state_dict(), before, rtol=0, atol=0)
    shared = copied.regularizer.teacher.network is model.regularizer.teacher.network
    assert shared is (how == "deepcopy")


@each_copy
def test_student_with_hooks_between_steps(model, images, terms, expected, numbers, seeded, step, how) -> None:
    """A copied student writes into the original's taps: here it does not, and can get its own regularizer."""
    step(model, images)
    student = COPIES[how](model.student)
    seeded(model.student, images)
    student(torch.randn(2, 3, 8, 8)).sum().backward()
    assert numbers(model.regularizer()) == expected(model, images)
    teacher = model.regularizer.teacher
    other = xr.Regularized(student, xr.CrossTaskRegularizer(student, teacher, terms(teacher.network)))
    for each in (other, model, other):
        assert numbers(seeded(each, images)[1]) == expected(each, images)
        step(each, images)


@each_copy
def test_teacher_between_steps(model, images, terms, expected, numbers, seeded, step, resnet, how) -> None:
    """A copied or loaded teacher is no longer frozen: here it is, with the same outputs."""
    step(model, images)
    teacher = COPIES[how](model.regularizer.teacher)
    student = resnet(2)
    other = xr.Regularized(student, xr.CrossTaskRegularizer(student, teacher, terms(teacher.network))).train()
    before = copy.deepcopy(teacher.network.state_dict())
    for each in (other, model):
        assert numbers(seeded(each, images)[1]) == expected(each, images)
        step(each, images)
    torch.testing.assert_close(teacher.network.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(model.regularizer.teacher.network.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("unread", [False, True])
def test_file_of_the_student_alone(model, images, resnet, step, unread) -> None:
    """The student's file contains the teacher, or activations: here it has the plain student's size within 1 %."""
    step(model, images)
    if unread:
        model.student(torch.randn(64, 3, 32, 32))
    state = model.student.state_dict()
    plain = resnet(2)
    assert state.keys() == plain.state_dict().keys()
    assert len(saved(state)) == pytest.approx(len(saved(plain.state_dict())), rel=0.01)
    assert len(saved(model.student)) - len(saved(plain)) < 4096  # the hooks themselves
    model.regularizer.remove()
    assert b"xtask_reg" not in pickle.dumps(model.student)
