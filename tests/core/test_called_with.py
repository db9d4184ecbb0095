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
