"""The weight by which the doctor judges a term whose weight changes."""

from __future__ import annotations

import math

from torch import Tensor

from xtask_reg.term import Term, Weight
from xtask_reg.weights.balanced import Balanced
from xtask_reg.weights.schedule import Schedule

POINTS = 1000


def largest(value: float | Schedule) -> float:
    """The number, or the largest value of a schedule."""
    return max(value(point / POINTS) for point in range(POINTS + 1)) if isinstance(value, Schedule) else value


def short(weight: Weight) -> str:
    """``'0.002'``, or the class with its largest value: ``'CosineDecay(0.002)'``, ``'Balanced(0.1)'``."""
    if isinstance(weight, Balanced):
        return f"Balanced({short(weight.ratio)})"
    return f"{type(weight).__name__}({largest(weight):g})" if isinstance(weight, Schedule) else f"{weight:g}"


def balanced_weight(balanced: Balanced, own: Tensor | None, rest: Tensor | None) -> float:
    """The balanced weight that follows from a single measurement; 0 if there is none.

    Args:
        balanced: the weight.
        own: the gradient of the term, not weighted.
        rest: the gradient of everything else at the same place.
    """
    norm = 0.0 if own is None else float(own.norm())
    weight = largest(balanced.ratio) * float(rest.norm()) / norm if norm and rest is not None else 0.0
    return weight if math.isfinite(weight) else 0.0


def act_at_one_place(one: Term, other: Term) -> bool:
    """Whether two terms act at one place, so that neither is part of what the other is balanced with."""
    if one.reads_parameters or other.reads_parameters:
        return one.reads_parameters and other.reads_parameters
    return one.student == other.student
