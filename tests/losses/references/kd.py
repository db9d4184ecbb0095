"""Hinton et al. 2015: cross-entropy of the softened probabilities minus the entropy of the teacher's, by loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

from case import Case, at_each_location
from torch import Tensor

from xtask_reg.losses.kd import KDLoss, kd_loss


def softmax(row: Sequence[float], temperature: float) -> list[float]:
    powers = [math.exp((z - max(row)) / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def reference(student: Tensor, teacher: Tensor, temperature: float, reduction: str) -> float:
    total = 0.0
    pairs = at_each_location(student, teacher)
    for s, t in pairs:
        p, q = softmax(t, temperature), softmax(s, temperature)
        cross_entropy = -sum(a * math.log(b) for a, b in zip(p, q, strict=True))
        entropy = -sum(a * math.log(a) for a in p)
        total += cross_entropy - entropy
    return temperature**2 * total / (len(pairs) if reduction == "mean" else len(pairs) // len(student))


CASES = [
    Case(
        function=kd_loss,
        module=KDLoss,
        reference=reference,
        defaults={"temperature": 4.0, "reduction": "mean"},
        options=[{}, {"temperature": 1}, {"temperature": 20.0, "reduction": "sum"}],
        alike=[{}, {"temperature": 1.0}],
        shapes=[(3, 6), (1, 2), (5, 7), (2, 100), (2, 4, 3, 5), (3, 2, 4), (1, 3, 2, 2, 2)],
        bad_shapes=[
            *[((2, 3), other) for other in [(2, 4), (3, 3), (1, 3), (3,), (2, 3, 1)]],
            *[((2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (2, 3, 16), (2, 4, 4, 4)]],
            ((3,), (3,)),
            ((3, 1), (3, 1)),
        ],
        unchanged_by=("images", "resolution"),
        bad_options={"temperature": [0, -1.5, math.nan, math.inf, "2"]},
    )
]
