"""Fu et al. 2020, Eq. 3, by loops."""

from __future__ import annotations

import math

from case import Case, at_each_location
from torch import Tensor

from xtask_reg.losses.softmax_l2 import SoftmaxL2Loss, softmax_l2_loss


def reference(student: Tensor, teacher: Tensor, temperature: float, reduction: str) -> float:
    total = 0.0
    pairs = at_each_location(student, teacher)
    for s, t in pairs:
        p, q = ([math.exp(z / temperature - max(row) / temperature) for z in row] for row in (s, t))
        total += sum((a / sum(p) - b / sum(q)) ** 2 for a, b in zip(p, q, strict=True))
    return total / (len(pairs) if reduction == "mean" else len(pairs) // len(student))


CASES = [
    Case(
        function=softmax_l2_loss,
        module=SoftmaxL2Loss,
        reference=reference,
        defaults={"temperature": 2.0, "reduction": "mean"},
        options=[{}, {"temperature": 0.5}, {"temperature": 1.0}, {"temperature": 7}, {"reduction": "sum"}],
        shapes=[(3, 6), (1, 2), (5, 7), (2, 100), (2, 4, 3, 5), (3, 2, 4), (1, 3, 2, 2, 2)],
        bad_shapes=[
            *[((2, 3), other) for other in [(2, 4), (3, 3), (1, 3), (3,), (2, 3, 1)]],
            *[((2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (2, 3, 16), (2, 4, 4, 4)]],
            ((3,), (3,)),
            ((3, 1), (3, 1)),
        ],
        unchanged_by=("images", "resolution"),
        bad_options={"temperature": [0, 0.0, -1, -2.5, math.nan, math.inf, -math.inf, "2"]},
        alike=[{}, {"temperature": 0.5}],
        highest=2.0,
    )
]
