"""The parameters that student and teacher have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xtask_reg.submodules import find_module, plain_path


class CommonParameters:
    """The parameters of the same name and shape in a submodule of the student and one of the teacher.

    Those of the student that the teacher has not, or in another shape (a new head), are left out.

    Args:
        student: the network that is trained.
        teacher: the source network.
        student_path: dotted path of the student's submodule, ``""`` for all of it.
        teacher_path: dotted path of the teacher's submodule, likewise.

    Raises:
        ValueError: for an unknown path, if they have no parameter in common, or if the teacher's are in a lower
            precision than the student's.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, student_path: str, teacher_path: str) -> None:
        self._student = _submodule(student, student_path)
        self._teacher_path = teacher_path
        source, own = _parameters(_submodule(teacher, teacher_path)), _parameters(self._student)
        self.names = [name for name in own if name in source and own[name].shape == source[name].shape]
        if not self.names:
            raise ValueError(
                f"{student_path!r} of the student and {teacher_path!r} of the teacher have no parameter of the same "
                f"name and shape: the student's are {list(own)[:3]}..., the teacher's {list(source)[:3]}..."
            )
        for name in self.names:
            _check_precision(name, own[name].dtype, source[name].dtype)

    def read(self, teacher: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The parameters now, of the student and of the teacher.

        Raises:
            RuntimeError: if the student's are sharded by FSDP.
        """
        own, source = _parameters(self._student), _parameters(_submodule(teacher, self._teacher_path))
        if any(hasattr(own[name], "placements") for name in self.names):
            raise RuntimeError("parameters that FSDP shards cannot be compared with the teacher's; use DDP")
        return {name: own[name] for name in self.names}, {name: source[name] for name in self.names}


def _check_precision(name: str, student: torch.dtype, teacher: torch.dtype) -> None:
    if torch.finfo(teacher).eps > torch.finfo(student).eps:
        raise ValueError(
            f"parameter {name!r} is {student} in the student and only {teacher} in the teacher: a term on parameters "
            "would hold the student at rounded values; leave the teacher's dtype as it is"
        )


def _submodule(model: nn.Module, path: str) -> nn.Module:
    return find_module(model, path) if path else model


def _parameters(module: nn.Module) -> dict[str, Tensor]:
    """By their names without those of wrappers."""
    return {plain_path(name): parameter for name, parameter in module.named_parameters()}
