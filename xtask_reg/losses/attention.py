"""Attention of locations or channels: the energy of their activations."""

from __future__ import annotations

import math
from numbers import Real

from torch import Tensor

from xtask_reg.losses.directions import ZERO_NORM, unit
from xtask_reg.losses.shapes import by_location


def check_power(power: float) -> None:
    """Raise ``ValueError`` unless ``power`` is a finite number of at least 1."""
    if not (isinstance(power, Real) and 1 <= power < math.inf):
        raise ValueError(f"power={power!r}; expected a finite number of at least 1")


def attention(features: Tensor, power: float, summed: int) -> Tensor:
    """``|features| ** power``, summed over channels (1) or locations (2), as unit vectors ``(B, L or C)``.

    Since the result does not depend on their scale, the features are first divided by their largest: powers of huge
    ones would overflow, those of small ones underflow. An image whose features are all 0 has the attention 0.
    """
    features = by_location(features)
    largest = features.detach().abs().amax(dim=(1, 2), keepdim=True).clamp_min(ZERO_NORM)
    return unit((features / largest).abs().pow(power).sum(summed), dim=1)
