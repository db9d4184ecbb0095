"""The checks that run when a term is computed, each of which warns once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from xtask_reg.channel_order import ChannelOrder
from xtask_reg.faint_teacher import warn_of_faint_teacher
from xtask_reg.gradient_reach import GradientReach
from xtask_reg.single_location import warn_of_single_location
from xtask_reg.term import Read, Term
from xtask_reg.untrained import UntrainedConnectors


class TermChecks:
    """Warns of terms that do not do what they are meant to do.

    Args:
        modules: the student's tapped modules, by path.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._reach, self._untrained, self._order = GradientReach(), UntrainedConnectors(), ChannelOrder(modules)
        self._computed: set[str] = set()

    def check(self, term: Term, student: Read, teacher: Read | None, trained: Sequence[Tensor]) -> None:
        """Check what a term is about to compare.

        Args:
            term: the term.
            student: what it has read from the student.
            teacher: what it has read from the teacher.
            trained: the parameters of the student.
        """
        self._reach.check(term, student)
        self._untrained.check(term, trained)
        self._order.check(term, student, teacher)
        if term.name in self._computed or not isinstance(student, Tensor) or torch.compiler.is_compiling():
            return
        self._computed.add(term.name)
        if isinstance(teacher, Tensor):
            warn_of_faint_teacher(term, teacher)
        warn_of_single_location(term, student, teacher)
