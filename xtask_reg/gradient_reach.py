"""The warning where a term cannot act on the student."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from xtask_reg.term import Read, Term


class GradientReach:
    """Warns, once per term, if its gradient does not reach the student.

    Such a term costs a forward pass of the teacher and does nothing.
    """

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def check(self, term: Term, student: Read) -> None:
        """Check what the term has just read from the student."""
        tensors = (student,) if isinstance(student, Tensor) else student.values()
        if term.name in self._warned or not torch.is_grad_enabled() or any(t.requires_grad for t in tensors):
            return
        self._warned.add(term.name)
        found = (
            f"its parameters at {term.student!r} do not train"
            if term.reads_parameters
            else f"its tap {term.student!r} carries no gradient (frozen up to there, or the output is detached)"
        )
        warnings.warn(
            f"term {term.name!r} cannot act on the student: {found}; tap a layer that trains, or leave it out"
        )
