"""Channel-weighted squared distance (Li et al. 2019, DELTA), by loops."""

from __future__ import annotations

from collections.abc import Sequence

from case import Case
from torch import Tensor

from xtask_reg.losses.delta import DELTALoss, delta_loss


def reference(student: Tensor, teacher: Tensor, channel_weights: Sequence[float] | None, reduction: str) -> float:
    total = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        weights = [1 / len(s)] * len(s) if channel_weights is None else channel_weights
        for weight, one, other in zip(weights, s, t, strict=True):
            squares = [(float(a) - float(b)) ** 2 for a, b in zip(one.ravel(), other.ravel(), strict=True)]
            total += weight * sum(squares) / len(squares)
    return total / len(student) if reduction == "mean" else total


WEIGHTS = ([0.5, 0.25, 0.125, 0.125], [0.0, 0.0, 1.0, 0.0], (2.0, 0.5, 3.0, 0.25))

CASES = [
    Case(
        function=delta_loss,
        module=DELTALoss,
        reference=reference,
        defaults={"channel_weights": None, "reduction": "mean"},
        options=[{}, {"reduction": "sum"}, *({"channel_weights": list(weights)} for weights in WEIGHTS)],
        shapes=[(3, 4, 3, 5), (2, 4), (1, 4, 7), (2, 4, 1, 1), (2, 4, 2, 3, 2)],
        bad_shapes=[
            *[((2, 4, 4, 4), other) for other in [(2, 4, 4, 5), (2, 5, 4, 4), (3, 4, 4, 4), (2, 4)]],
            ((4,), (4,)),
        ],
        bad_options={
            "channel_weights": [
                [],
                [0.0, 0.0, 0.0, 0.0],
                [0.5, -0.5, 0.5, 0.5],
                [1.0, float("nan"), 0.0, 0.0],
                [float("inf"), 1.0, 1.0, 1.0],
                [[0.25, 0.25, 0.25, 0.25]],
            ]
        },
        alike=[{}, *({"channel_weights": list(weights)} for weights in WEIGHTS[:2])],
        unchanged_by=("images", "resolution"),
    )
]
