"""The warning where a loss compares locations and there is only one."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from xtask_reg.on_noise import value_on_noise
from xtask_reg.term import Read, Term

NOTHING = 1e-6
"""A term counts as zero if its value on noise is below this."""


class SingleLocation:
    """Warns, the first time that a term is computed, if it compares the locations of maps that have only one.

    Attention, a softmax over locations, and similarities between them are the same for all ``1 x 1`` maps: the term is
    0 and has no gradient, whatever the features are.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, term: Term, student: Read, teacher: Read | None) -> None:
        """Warn if there is a single location and the term is 0 on noise."""
        if term.name in self._seen or not isinstance(student, Tensor) or torch.compiler.is_compiling():
            return
        self._seen.add(term.name)
        single = student.ndim > 2 and math.prod(student.shape[2:]) == 1
        if single and abs(value_on_noise(term, student, teacher)) < NOTHING:
            warnings.warn(
                f"term {term.name!r}: {term.student!r} gives {tuple(student.shape)}, a single location, for which "
                f"{type(term.loss).__name__} is 0 whatever the features are: tap an earlier layer, or use larger images"
            )
