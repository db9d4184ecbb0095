"""Relative distances between images (Park et al. 2019, RKD-D), by loops over the pairs."""

from __future__ import annotations

import itertools
import math

from case import Case
from torch import Tensor

from xtask_reg.losses.rkd_distance import RKDDistanceLoss, rkd_distance_loss

BAD_SHAPES = [((3, 4), (2, 4)), ((3, 4, 2, 2), (4, 4, 2, 2)), ((3,), (3,)), ((3, 4), (3,))]
OTHER_SHAPES = [((4, 5), (4, 3)), ((4, 5, 3, 4), (4, 7, 2)), ((4, 5), (4, 3, 2, 2))]


def pooled(features: Tensor) -> list[list[float]]:
    return [[channel.mean() for channel in image.reshape(len(image), -1)] for image in features.numpy()]


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def relative_distances(features: Tensor) -> list[float]:
    distances = [math.dist(a, b) for a, b in itertools.permutations(pooled(features), 2)]
    return [distance / (sum(distances) / len(distances)) for distance in distances]


def reference(student: Tensor, teacher: Tensor) -> float:
    values = [huber(s - t) for s, t in zip(*map(relative_distances, (student, teacher)), strict=True)]
    return sum(values) / len(values) if values else 0.0


CASES = [
    Case(
        function=rkd_distance_loss,
        module=RKDDistanceLoss,
        reference=reference,
        defaults={},
        shapes=[(4, 6, 3, 4), (1, 3), (2, 3), (5, 1), (7, 2), (3, 4, 5), (6, 3, 2, 2, 2)],
        other_shapes=OTHER_SHAPES,
        bad_shapes=BAD_SHAPES,
        unchanged_by=("channels", "resolution"),
    )
]
