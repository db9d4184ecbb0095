"""AM-RADIO's feature loss (Ranzinger et al. 2024, Eq. 3), by loops over the locations and SciPy's cosine."""

from __future__ import annotations

import math

from case import Case
from scipy.spatial.distance import cosine
from torch import Tensor

from xtask_reg.losses.cosine_smooth_l1 import CosineSmoothL1Loss, cosine_smooth_l1_loss

BAD_WEIGHTS = [-1, -0.1, math.nan, math.inf, "1", None]


def smooth_l1(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def reference(student: Tensor, teacher: Tensor, cosine_weight: float, smooth_l1_weight: float, reduction: str) -> float:
    total = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        columns = list(zip(s.reshape(len(s), -1).T, t.reshape(len(t), -1).T, strict=True))
        for a, b in columns:
            part = sum(smooth_l1(x - y) for x, y in zip(a, b, strict=True)) / len(a)
            total += (cosine_weight * cosine(a, b) + smooth_l1_weight * part) / len(columns)
    return float(total / len(student) if reduction == "mean" else total)


CASES = [
    Case(
        function=cosine_smooth_l1_loss,
        module=CosineSmoothL1Loss,
        reference=reference,
        defaults={"cosine_weight": 0.9, "smooth_l1_weight": 0.1, "reduction": "mean"},
        options=[
            {},
            {"reduction": "sum"},
            {"cosine_weight": 0, "smooth_l1_weight": 1},
            {"cosine_weight": 2.5, "smooth_l1_weight": 0.0},
        ],
        shapes=[(3, 6, 3, 4), (1, 3), (4, 5), (2, 3, 7), (2, 2, 2, 3, 2), (3, 1, 4, 4)],
        bad_shapes=[
            *[((2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (2, 5, 4, 4), (3, 3, 4, 4), (2, 3)]],
            ((3,), (3,)),
        ],
        bad_options={"cosine_weight": BAD_WEIGHTS, "smooth_l1_weight": BAD_WEIGHTS},
        alike=[{}, {"cosine_weight": 2.5, "smooth_l1_weight": 0.0}],
        unchanged_by=("images", "channels", "resolution"),
    )
]
