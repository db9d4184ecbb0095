"""The warning where locations are compared and there is only one."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from xtask_reg.on_noise import value_on_noise
from xtask_reg.term import Read, Term

NOTHING = 1e-6
"""A value of the term below which it says nothing of noise."""


class SingleLocation:
    """Looks, the first time that a term is computed, whether it compares the locations of maps that have but one.

    Attention, a softmax over locations, or similarities between them are the same for all maps of ``1 x 1``: the term
    is 0 and has no gradient, whatever the features are.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, term: Term, student: Read, teacher: Read | None) -> None:
        """Warn if the term is 0 for noise of the shape that it has read."""
        if term.name in self._seen or not isinstance(student, Tensor) or torch.compiler.is_compiling():
            return
        self._seen.add(term.name)
        single = student.ndim > 2 and math.prod(student.shape[2:]) == 1
        if single and abs(value_on_noise(term, student, teacher)) < NOTHING:
            warnings.warn(
                f"term {term.name!r}: {term.student!r} gives {tuple(student.shape)}, a single location, for which "
                f"{type(term.loss).__name__} is 0 whatever the features are: tap an earlier layer, or use larger images"
            )
