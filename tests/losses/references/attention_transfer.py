"""Attention transfer by NumPy, an image at a time."""

from __future__ import annotations

import math

import numpy as np
from case import Case
from torch import Tensor

from xtask_reg.losses.attention_transfer import AttentionTransferLoss, attention_transfer_loss


def attention_map(features: np.ndarray, power: float) -> np.ndarray:
    attention = np.zeros(features.shape[1:])
    for channel in features:
        attention += np.abs(channel) ** power
    return attention / math.sqrt((attention**2).sum())


def reference(student: Tensor, teacher: Tensor, power: float, reduction: str) -> float:
    values = []
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        values.append(np.linalg.norm(attention_map(s, power) - attention_map(t, power)) ** 2)
    return sum(values) / len(values) if reduction == "mean" else sum(values)


CASES = [
    Case(
        function=attention_transfer_loss,
        module=AttentionTransferLoss,
        reference=reference,
        defaults={"power": 2.0, "reduction": "mean"},
        options=[{}, {"power": 1}, {"power": 1.5}, {"power": 4.0, "reduction": "sum"}],
        alike=[{}, {"power": 1.0}, {"power": 3.0}],
        shapes=[(3, 4, 3, 2), (1, 3, 7), (2, 1, 4, 4), (2, 2, 2, 3, 2), (2, 3, 1, 1)],
        other_shapes=[((2, 3, 4, 4), (2, 5, 4, 4)), ((1, 6, 5), (1, 1, 5))],
        bad_shapes=[
            *[((2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (2, 3, 16), (3, 3, 4, 4), (1, 3, 4, 4), (2, 3)]],
            ((2, 3), (2, 3)),
            ((3,), (3,)),
        ],
        bad_options={"power": [0, 0.5, -1.0, math.nan, math.inf, "2"]},
        unchanged_by=("images", "channels", "resolution"),
        highest=2.0,
    )
]
