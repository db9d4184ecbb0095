"""The warning where a balanced term has nothing to be balanced with, and weighs nothing for that."""

from __future__ import annotations

import math
import warnings

from xtask_reg.term import Term
from xtask_reg.weights.balanced import FIRST, Balanced


def warn_of_nothing_to_balance(term: Term, balanced: Balanced) -> None:
    """Say so when the first measurements are over, if they found no gradient of the term, or none beside it."""
    quotient = balanced.quotient
    if balanced.measurements != FIRST or 0 < quotient < math.inf:
        return
    place = f"its {'parameters' if term.reads_parameters else 'tap'} {term.student!r}"
    found = (
        f"no other loss has a gradient at {place}, or none beyond the rounding of that of the terms there: give it a "
        "number for a weight, or, where there is one, call the regularizer before the backward pass"
        if quotient == 0
        else f"it has no gradient at {place} (a map of a single cell, a single image, or features that are the "
        "teacher's): tap another layer, or leave it out"
    )
    warnings.warn(f"the balanced term {term.name!r} weighs nothing: {found}")
