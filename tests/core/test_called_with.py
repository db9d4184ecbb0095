"""Which of the tensors that the student is called with are the images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr


class Student(nn.Module):
    """Takes labels and anything else besides the images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor, labels: Tensor | None = None, **others: Any) -> Tensor:
        return self.conv(images).mean((1, 2, 3)) - (0 if labels is None else labels)


IMAGES, LABELS = torch.randn(2, 3, 9, 9), torch.zeros(2)
CALLS = {
    "images, labels": lambda student: student(IMAGES, LABELS),
    "images, labels=": lambda student: student(IMAGES, labels=LABELS),
    "images=, labels=": lambda student: student(images=IMAGES, labels=LABELS),
    "labels=, images=": lambda student: student(labels=LABELS, images=IMAGES),
    "weights=, labels=, images=": lambda student: student(weights=LABELS, labels=LABELS, images=IMAGES),
}


@pytest.mark.parametrize("wrap", ["plain", "regularized", "compiled"])
@pytest.mark.parametrize("call", CALLS)
def test_keywords_count_in_the_order_of_forward(call: str, wrap: str) -> None:
    student, source = Student(), Student()
    term = xr.Term(xr.HintLoss(), student="conv", teacher="conv", weight=1.0, name="hint")
    regularizer = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])
    if wrap == "regularized":
        value = CALLS[call](xr.Regularized(student, regularizer))[1]["hint"]
    else:
        torch.compiler.reset()
        CALLS[call](student if wrap == "plain" else torch.compile(student, backend="eager"))
        value = regularizer()["hint"]
    expected = (student.conv(IMAGES) - source.conv(IMAGES)).square().mean() / 2
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


class Altering(Student):
    """Changes its images in place."""

    def forward(self, images: Tensor, labels: Tensor | None = None, **others: Any) -> Tensor:
        return super().forward(images.sub_(0.5), labels, **others)


def hint(student: nn.Module, source: nn.Module) -> xr.CrossTaskRegularizer:
    term = xr.Term(xr.HintLoss(), student="conv", teacher="conv", weight=1.0, name="hint")
    return xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])


def test_images_that_the_student_changed_are_not_taken_nor_another_tensor_of_the_call() -> None:
    student, source = Altering(), Student()
    regularizer, images = hint(student, source), torch.randn(2, 3, 9, 9)
    student(images, depth=torch.randn(2, 3, 9, 9))
    with pytest.raises(ValueError, match="changed it in place: give the images as they were before"):
        regularizer()
    student(images)
    with pytest.raises(ValueError, match=r"the images given, \(2, 3, 9, 9\), were changed in place"):
        regularizer(images)


def test_a_copy_from_before_the_call_is_taken() -> None:
    student, source = Altering(), Student()
    regularizer, images = hint(student, source), torch.randn(2, 3, 9, 9)
    before = images.clone()
    student(images, labels=torch.zeros(2), depth=torch.randn(2, 1, 9, 9))
    expected = (student.conv(before - 0.5) - source.conv(before)).square().mean() / 2
    torch.testing.assert_close(regularizer(before)["hint"], expected)
