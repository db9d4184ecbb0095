"""The network that is trained, as it is now: what is replaced in it during training is seen."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import nn

from xtask_reg.sharing import check_nothing_shared
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.teachers import FrozenTeachers


class HeldStudent:
    """The student, held by a module of which it is no submodule.

    Args:
        module: the network, not wrapped.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._checked: Sequence[nn.Parameter] = ()

    def parameters(self, holder: nn.Module) -> list[nn.Parameter]:
        """The parameters that it has now; asked in each step, so without the cost of ``nn.Module.parameters()``.

        Args:
            holder: who holds it. It may be within the student; its parameters are none of the student's.
        """
        found: list[nn.Parameter | None] = []
        parts: list[nn.Module | None] = [self.module]
        while parts:
            part = parts.pop()
            if part is not None and part is not holder:
                found += part._parameters.values()
                parts += part._modules.values()
        return [parameter for parameter in found if parameter is not None]

    def own_parameters(self, holder: nn.Module, teacher: FrozenTeacher | FrozenTeachers | None) -> list[nn.Parameter]:
        """:meth:`parameters`, of which none is the teacher's; that is looked at again when there are others.

        Under ``torch.compile`` it is not looked at.

        Raises:
            ValueError: if the student shares a parameter or buffer with the teacher's network.
        """
        now = self.parameters(holder)
        if teacher is not None and not torch.compiler.is_compiling() and not self._are_checked(now):
            check_nothing_shared(teacher.network, student=self.module)
            self._checked = now
        return now

    def _are_checked(self, now: Sequence[nn.Parameter]) -> bool:
        return len(now) == len(self._checked) and all(map(operator.is_, now, self._checked))
