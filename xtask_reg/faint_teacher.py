"""The warning where the teacher's features are nothing."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from xtask_reg.term import Read, Term

NOTHING = 1e-8
"""Features whose absolute values are all below this."""


class FaintTeacher:
    """Looks, the first time that a term is computed, whether its teacher gives more than zeros, and warns if not.

    Such features come from a deep network that was never trained, or from one whose units are dead; a cosine with them
    has no gradient, and the term does nothing.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, term: Term, teacher: Read | None) -> None:
        """Look at what the term has just read of its teacher."""
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
