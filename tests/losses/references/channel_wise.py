"""CWD by loops over images and channels, with SciPy's softmax and relative entropy."""

from __future__ import annotations

import math

from case import Case
from scipy.special import rel_entr, softmax
from torch import Tensor

from xtask_reg.losses.channel_wise import ChannelWiseLoss, channel_wise_loss


def reference(student: Tensor, teacher: Tensor, temperature: float, reduction: str) -> float:
    total = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        for a, b in zip(s, t, strict=True):
            p, q = softmax(b / temperature), softmax(a / temperature)
            total += temperature**2 / len(s) * rel_entr(p, q).sum()
    return total / len(student) if reduction == "mean" else total


CASES = [
    Case(
        function=channel_wise_loss,
        module=ChannelWiseLoss,
        reference=reference,
        defaults={"temperature": 4.0, "reduction": "mean"},
        options=[{}, {"temperature": 1}, {"temperature": 0.5, "reduction": "sum"}],
        alike=[{}, {"temperature": 1.0}],
        shapes=[(3, 4, 3, 2), (1, 3, 7), (2, 1, 4, 4), (2, 2, 2, 3, 2), (2, 3, 1, 1)],
        bad_shapes=[
            *[((2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (2, 5, 4, 4), (3, 3, 4, 4), (1, 3, 4, 4), (2, 3)]],
            ((2, 3), (2, 3)),
            ((3,), (3,)),
        ],
        bad_options={"temperature": [0, -1.5, math.nan, math.inf, "2"]},
        unchanged_by=("images", "channels", "resolution"),
    )
]
