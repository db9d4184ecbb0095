"""Li & Hoiem 2016: cross-entropy of probabilities to the power 1/T, minus its least value, by loops."""

from __future__ import annotations

import math

from case import Case, at_each_location
from torch import Tensor

from xtask_reg.losses.lwf import LwFLoss, lwf_loss


def softened(logits: list[float], temperature: float) -> list[float]:
    """The paper's way: softmax first, then the power 1/T, then the sum to 1."""
    exponentials = [math.exp(logit) for logit in logits]
    powers = [(each / sum(exponentials)) ** (1 / temperature) for each in exponentials]
    return [power / sum(powers) for power in powers]


def cross_entropy(recorded: list[float], current: list[float]) -> float:
    return -sum(y * math.log(z) for y, z in zip(recorded, current, strict=True))


def reference(student: Tensor, teacher: Tensor, temperature: float, reduction: str) -> float:
    values = []
    pairs = at_each_location(student, teacher)
    for current, recorded in pairs:
        y, z = softened(recorded, temperature), softened(current, temperature)
        values.append(cross_entropy(y, z) - cross_entropy(y, y))
    return math.fsum(values) / (len(values) if reduction == "mean" else len(values) // len(student))


CASES = [
    Case(
        function=lwf_loss,
        module=LwFLoss,
        reference=reference,
        defaults={"temperature": 2.0, "reduction": "mean"},
        options=[{}, {"temperature": 1}, {"temperature": 5.0, "reduction": "sum"}],
        alike=[{}, {"temperature": 1.0}],
        shapes=[(3, 6), (1, 2), (4, 30), (2, 4, 3, 5), (3, 2, 4)],
        bad_shapes=[((2, 3), (2, 4)), ((2, 3), (3, 3)), ((2, 3, 4, 4), (2, 3, 4, 5)), ((3,), (3,)), ((3, 1), (3, 1))],
        unchanged_by=("images", "resolution"),
        bad_options={"temperature": [0, -1.5, math.nan, math.inf, "2"]},
    )
]
