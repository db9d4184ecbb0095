"""The temperature that softens a distribution."""

from __future__ import annotations

import math
from numbers import Real


def check_temperature(temperature: float) -> None:
    """Raise ``ValueError`` unless ``temperature`` is a positive finite number."""
    if not (isinstance(temperature, Real) and 0 < temperature < math.inf):
        raise ValueError(f"temperature={temperature!r}; expected a positive finite number")
