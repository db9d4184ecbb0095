"""Similarities to the neighbours (after Yang et al. 2020), by loops over the locations and SciPy's divergence."""

from __future__ import annotations

import math

import numpy as np
from case import Case
from scipy.spatial.distance import cosine
from scipy.special import rel_entr, softmax
from torch import Tensor

from xtask_reg.losses.local_similarity import LocalSimilarityLoss, local_similarity_loss


def shares(image: np.ndarray, row: int, column: int, window: int, temperature: float) -> np.ndarray:
    """The distribution over the neighbours of one location; empty if it has none."""
    _, height, width = image.shape
    similarities = [
        1 - cosine(image[:, row, column], image[:, y, x])
        for y in range(height)
        for x in range(width)
        if max(abs(y - row), abs(x - column)) <= window // 2 and (y, x) != (row, column)
    ]
    return softmax(np.array(similarities) / temperature) if similarities else np.zeros(0)


def reference(student: Tensor, teacher: Tensor, window: int, temperature: float, reduction: str) -> float:
    total = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        for row, column in np.ndindex(s.shape[1:]):
            p, q = (shares(image, row, column, window, temperature) for image in (t, s))
            total += rel_entr(p, q).sum() / (s.shape[1] * s.shape[2])
    return float(total / len(student) if reduction == "mean" else total)


CASES = [
    Case(
        function=local_similarity_loss,
        module=LocalSimilarityLoss,
        reference=reference,
        defaults={"window": 3, "temperature": 0.1, "reduction": "mean"},
        options=[{}, {"window": 5}, {"window": 9, "temperature": 1.0}, {"temperature": 2}, {"reduction": "sum"}],
        shapes=[(2, 6, 3, 4), (1, 3, 1, 1), (2, 3, 1, 5), (1, 4, 6, 2), (2, 1, 3, 3)],
        other_shapes=[((2, 3, 4, 2), (2, 5, 4, 2))],
        bad_shapes=[
            *[((2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (2, 3, 5, 4), (3, 3, 4, 4), (2, 3, 16), (2, 3)]],
            ((2, 3, 4), (2, 3, 4)),
            ((2, 3, 4, 4, 4), (2, 3, 4, 4, 4)),
        ],
        bad_options={
            "window": [-3, 0, 1, 2, 4, 3.0, True, "3"],
            "temperature": [0, -1.0, math.nan, math.inf],
        },
        alike=[{}, {"window": 5}, {"temperature": 2}],
        unchanged_by=("images", "channels"),
    )
]
