"""Angles between images (Park et al. 2019, RKD-A), by loops over the triplets and the law of cosines."""

from __future__ import annotations

import itertools
import math

from case import Case
from torch import Tensor

from xtask_reg.losses.rkd_angle import RKDAngleLoss, rkd_angle_loss


def cosines(features: Tensor) -> list[float]:
    points = [[channel.mean() for channel in image.reshape(len(image), -1)] for image in features.numpy()]
    found = []
    for one, apex, other in itertools.permutations(points, 3):
        a, b, opposite = math.dist(apex, one), math.dist(apex, other), math.dist(one, other)
        found.append((a**2 + b**2 - opposite**2) / (2 * a * b))
    return found


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def reference(student: Tensor, teacher: Tensor) -> float:
    values = [huber(s - t) for s, t in zip(cosines(student), cosines(teacher), strict=True)]
    return sum(values) / len(values) if values else 0.0


CASES = [
    Case(
        function=rkd_angle_loss,
        module=RKDAngleLoss,
        reference=reference,
        defaults={},
        shapes=[(4, 6, 3, 4), (1, 3), (2, 3), (3, 2), (5, 1), (6, 2), (3, 4, 5), (4, 3, 2, 2, 2)],
        other_shapes=[((4, 5), (4, 3)), ((4, 5, 3, 4), (4, 7, 2)), ((4, 5), (4, 3, 2, 2))],
        bad_shapes=[((3, 4), (2, 4)), ((3, 4, 2, 2), (4, 4, 2, 2)), ((3,), (3,)), ((3, 4), (3,))],
        unchanged_by=("channels", "resolution"),
        highest=1.5,
    )
]
