"""One minus the cosine (Fu et al. 2020, Eq. 4), by loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

from case import Case
from torch import Tensor

from xtask_reg.losses.cosine_alignment import CosineAlignmentLoss, cosine_alignment_loss

OVERS = ("flatten", "location", "pooled")


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    lengths = (math.sqrt(sum(x * x for x in each)) for each in (a, b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.prod(lengths)


def cosines(student: Tensor, teacher: Tensor, over: str) -> list[float]:
    """The cosine of each image."""
    values = []
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        if over == "flatten":
            values.append(cosine(s.ravel(), t.ravel()))
            continue
        s, t = s.reshape(len(s), -1), t.reshape(len(t), -1)
        if over == "pooled":
            values.append(cosine([sum(c) / len(c) for c in s], [sum(c) / len(c) for c in t]))
        else:
            values.append(sum(cosine(s[:, at], t[:, at]) for at in range(s.shape[1])) / s.shape[1])
    return values


def reference(student: Tensor, teacher: Tensor, over: str, reduction: str) -> float:
    values = cosines(student, teacher, over)
    return 1 - (sum(values) / len(values) if reduction == "mean" else sum(values))


CASES = [
    Case(
        function=cosine_alignment_loss,
        module=CosineAlignmentLoss,
        reference=reference,
        defaults={"over": "flatten", "reduction": "mean"},
        options=[{"over": over, **reduction} for over in OVERS for reduction in ({}, {"reduction": "sum"})],
        shapes=[(3, 6, 3, 4), (1, 3), (4, 5), (2, 3, 7), (3, 4, 2, 5), (2, 2, 2, 3, 2), (3, 1, 4, 4)],
        bad_shapes=[
            *[((2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (2, 5, 4, 4), (3, 3, 4, 4), (2, 3)]],
            ((3,), (3,)),
        ],
        bad_options={"over": ["channel", ""]},
        alike=[{"over": over} for over in OVERS],
        unchanged_by=("images", "channels", "resolution"),
        highest=2.0,
        sum_is_means=False,
    )
]
