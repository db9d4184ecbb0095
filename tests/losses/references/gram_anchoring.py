"""Similarities between all locations (Siméoni et al. 2025), by loops over the pairs of locations."""

from __future__ import annotations

import itertools
import math

import numpy as np
from case import Case
from torch import Tensor

from xtask_reg.losses.gram_anchoring import GramAnchoringLoss, gram_anchoring_loss


def similarities(image: np.ndarray) -> list[float]:
    columns = image.reshape(len(image), -1).T.tolist()
    return [
        sum(x * y for x, y in zip(p, q, strict=True)) / (math.hypot(*p) * math.hypot(*q))
        for p, q in itertools.product(columns, repeat=2)
    ]


def reference(student: Tensor, teacher: Tensor, reduction: str) -> float:
    values = []
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        squares = [(a - b) ** 2 for a, b in zip(similarities(s), similarities(t), strict=True)]
        values.append(sum(squares) / len(squares))
    return sum(values) / len(values) if reduction == "mean" else sum(values)


CASES = [
    Case(
        function=gram_anchoring_loss,
        module=GramAnchoringLoss,
        reference=reference,
        defaults={"reduction": "mean"},
        options=[{}, {"reduction": "sum"}],
        shapes=[(3, 6, 3, 4), (1, 3, 5), (2, 1, 4, 4), (2, 4, 1), (2, 2, 2, 3, 2)],
        other_shapes=[((2, 3, 4, 2), (2, 5, 4, 2)), ((3, 4, 6), (3, 1, 6))],
        bad_shapes=[
            *[((2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (3, 3, 4, 4), (2, 3, 16), (2, 3)]],
            ((2, 3), (2, 3)),
            ((3,), (3,)),
        ],
        unchanged_by=("images", "channels", "resolution"),
        highest=4.0,
    )
]
