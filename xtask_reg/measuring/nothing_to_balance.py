"""The warning where a balanced term stays at weight 0, because there is nothing to balance it with."""

from __future__ import annotations

import math
import warnings

from xtask_reg.term import Term
from xtask_reg.weights.balanced import FIRST, Balanced


def warn_of_nothing_to_balance(term: Term, balanced: Balanced) -> None:
    """Warn after the first measurements, if they found no gradient of the term, or none of anything else."""
    quotient = balanced.quotient
    if balanced.measurements != FIRST or 0 < quotient < math.inf:
        return
    place = f"its {'parameters' if term.reads_parameters else 'tap'} {term.student!r}"
    found = (
        f"no other loss has a gradient at {place}, or none above the rounding error of the terms' own: give the term "
        "a number as its weight, or, if there is such a loss, call the regularizer before the backward pass"
        if quotient == 0
        else f"it has no gradient at {place} (a map of a single cell, a single image, or features that are the "
        "teacher's): tap another layer, or leave it out"
    )
    warnings.warn(f"the balanced term {term.name!r} weighs nothing: {found}")
