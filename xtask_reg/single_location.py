"""The warning where a loss compares locations and there is only one."""

from __future__ import annotations

import math
import warnings

from torch import Tensor

from xtask_reg.on_noise import value_on_noise
from xtask_reg.term import Read, Term

NOTHING = 1e-6
"""A term counts as zero if its value on noise is below this."""


def warn_of_single_location(term: Term, student: Tensor, teacher: Read | None) -> None:
    """Warn if a term compares the locations of maps that have only one, and so is 0 on noise.

    Attention, a softmax over locations, and similarities between them are the same for all ``1 x 1`` maps: the term is
    0 and has no gradient, whatever the features are.
    """
    single = student.ndim > 2 and math.prod(student.shape[2:]) == 1
    if single and abs(value_on_noise(term, student, teacher)) < NOTHING:
        warnings.warn(
            f"term {term.name!r}: {term.student!r} gives {tuple(student.shape)}, a single location, for which "
            f"{type(term.loss).__name__} is 0 whatever the features are: tap an earlier layer, or use larger images"
        )
