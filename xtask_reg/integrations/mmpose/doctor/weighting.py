"""The weight that a term is judged by, where it is not one number."""

from __future__ import annotations

import math

from torch import Tensor

from xtask_reg.term import Term, Weight
from xtask_reg.weights.balanced import Balanced
from xtask_reg.weights.schedule import Schedule

POINTS = 1000


def largest(value: float | Schedule) -> float:
    """A number as it is; of a schedule the largest value during training."""
    return max(value(point / POINTS) for point in range(POINTS + 1)) if isinstance(value, Schedule) else value


def short(weight: Weight) -> str:
    """``'0.002'``, or the kind with its largest value, as in ``'CosineDecay(0.002)'`` and ``'Balanced(0.1)'``."""
    if isinstance(weight, Balanced):
        return f"Balanced({short(weight.ratio)})"
    return f"{type(weight).__name__}({largest(weight):g})" if isinstance(weight, Schedule) else f"{weight:g}"


def balanced_weight(balanced: Balanced, own: Tensor | None, rest: Tensor | None) -> float:
    """What a balanced weight would be by one measurement alone; 0 if it gives none.

    Args:
        balanced: the weight.
        own: the gradient of the term, not weighted.
        rest: that of all else at the same place.
    """
    norm = 0.0 if own is None else float(own.norm())
    weight = largest(balanced.ratio) * float(rest.norm()) / norm if norm and rest is not None else 0.0
    return weight if math.isfinite(weight) else 0.0


def act_at_one_place(one: Term, other: Term) -> bool:
    """Whether a balanced weight does not take one for the other's rest."""
    if one.reads_parameters or other.reads_parameters:
        return one.reads_parameters and other.reads_parameters
    return one.student == other.student
