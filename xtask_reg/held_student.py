"""The student's current parameters, including those replaced during training."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import nn

from xtask_reg.sharing import check_nothing_shared
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.teachers import FrozenTeachers


class HeldStudent:
    """The student, held by a module without being its submodule.

    Args:
        module: the network, not wrapped.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._checked: Sequence[nn.Parameter] = ()

    def parameters(self, holder: nn.Module) -> list[nn.Parameter]:
        """The current parameters. Called in each step, so it avoids the slower ``nn.Module.parameters()``.

        Args:
            holder: the module that holds the student. It may be inside the student; its parameters do not count.
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
        """:meth:`parameters`, after a check that the teacher shares none; repeated only when they change.

        Under ``torch.compile`` there is no check.

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
