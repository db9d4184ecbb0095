"""Channel attention by loops, a channel at a time."""

from __future__ import annotations

import math

import numpy as np
from case import Case
from torch import Tensor

from xtask_reg.losses.channel_attention import ChannelAttentionLoss, channel_attention_loss


def descriptor(features: np.ndarray, power: float) -> list[float]:
    """The mean power of each channel, as a vector of length 1."""
    energies = [np.mean([abs(value) ** power for value in np.ravel(channel)]) for channel in features]
    length = math.hypot(*energies)
    return [energy / length for energy in energies]


def reference(student: Tensor, teacher: Tensor, power: float, reduction: str) -> float:
    values = [
        math.dist(descriptor(s, power), descriptor(t, power)) ** 2
        for s, t in zip(student.numpy(), teacher.numpy(), strict=True)
    ]
    return math.fsum(values) / (len(values) if reduction == "mean" else 1)


CASES = [
    Case(
        function=channel_attention_loss,
        module=ChannelAttentionLoss,
        reference=reference,
        defaults={"power": 2.0, "reduction": "mean"},
        options=[{}, {"power": 1}, {"power": 1.5}, {"power": 4.0, "reduction": "sum"}],
        alike=[{}, {"power": 1.0}, {"power": 3.0}],
        shapes=[(3, 4, 3, 2), (1, 3), (4, 5), (1, 3, 7), (2, 2, 2, 3, 2), (2, 1, 4, 4)],
        other_shapes=[((2, 3, 4, 4), (2, 3, 2, 5)), ((1, 6, 5), (1, 6)), ((1, 6, 5), (1, 6, 3, 2))],
        bad_shapes=[
            *[((2, 3, 4, 4), other) for other in [(2, 5, 4, 4), (3, 3, 4, 4), (1, 3, 4, 4), (2, 4)]],
            ((3,), (3,)),
        ],
        bad_options={"power": [0, 0.5, -1.0, math.nan, math.inf, "2"]},
        unchanged_by=("images", "channels", "resolution"),
        highest=2.0,
    )
]
