"""The warning where the teacher's features are all zero."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from xtask_reg.term import Read, Term

NOTHING = 1e-8
"""Features count as zero if all their absolute values are below this."""


class FaintTeacher:
    """Warns, the first time that a term is computed, if the teacher's features are all zero.

    Such features come from a deep network that was never trained, or from dead units. The cosine with a zero vector has
    no gradient, so the term does nothing.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, term: Term, teacher: Read | None) -> None:
        """Check what the term has just read from its teacher."""
        if term.name in self._seen or not isinstance(teacher, Tensor) or torch.compiler.is_compiling():
            return
        self._seen.add(term.name)
        largest = teacher.abs().amax().item() if teacher.numel() else 1.0
        if largest < NOTHING:
            warnings.warn(
                f"term {term.name!r}: no feature of the teacher at {term.teacher!r} is above {largest:g} in absolute "
                "value, so they say nothing about the images: check that the source was trained, that its weights are "
                "loaded, and that it gets the images that it expects"
            )
