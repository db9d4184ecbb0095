"""The parameters that student and teacher have in common."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from xtask_reg.processes import local_part
from xtask_reg.submodules import find_module, plain_path


class CommonParameters:
    """The parameters that a submodule of the student and one of the teacher have under one name and in one shape.

    The student's others (a new head) are left out. So, with a warning, are those that only one of the two networks
    computes from other tensors (weight norm, LoRA, quantised layers). A new head that has the source's shape is
    compared, with a warning.

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
        self._student_path, self._teacher_path = student_path, teacher_path
        own, source = self._now(student, teacher)
        self.names = [name for name in own if name in source and own[name].shape == source[name].shape]
        if not self.names:
            raise ValueError(
                f"{student_path!r} of the student and {teacher_path!r} of the teacher have no parameter of the same "
                f"name and shape: the student's are {list(own)[:3]}..., the teacher's {list(source)[:3]}..."
            )
        for name in self.names:
            _check_precision(name, own[name].dtype, source[name].dtype)
        self._dtypes = {name: own[name].dtype for name in self.names}
        _warn_of_new([name for name in self.names if own[name].requires_grad], own, source)
        _warn_of_made("student", list(_made(_submodule(student, student_path), source.keys() - own.keys())))
        _warn_of_made("teacher", list(_made(_submodule(teacher, teacher_path), own.keys() - source.keys())))

    def read(self, student: nn.Module, teacher: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The current parameters of the student and of the teacher.

        Raises:
            RuntimeError: if the student no longer has one of them, or only rounded, or FSDP shards them.
        """
        own, source = self._now(student, teacher)
        gone = next((name for name in self.names if name not in own), None)
        if gone is not None:
            raise RuntimeError(
                f"the parameter {gone!r} in {self._student_path!r} of the student, which a term compares with the "
                "teacher's, no longer exists: it was parametrized (weight_norm, LoRA, FSDP's flat parameters), or "
                "its module was replaced; change the student first, then build the regularizer"
            )
        if _are_sharded(_submodule(student, self._student_path), [(own[name], source[name]) for name in self.names]):
            raise RuntimeError(
                "parameters that FSDP or tensor parallelism shards cannot be compared with the teacher's; use DDP"
            )
        for name, dtype in self._dtypes.items():
            _check_unrounded(name, own[name].dtype, dtype, source[name].dtype)
        return {name: own[name] for name in self.names}, {name: source[name] for name in self.names}

    def _now(self, student: nn.Module, teacher: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        # a parameter that the source has under two names may be two parameters in the student
        source = _submodule(teacher, self._teacher_path).named_parameters(remove_duplicate=False)
        return _plain(_submodule(student, self._student_path).named_parameters()), _plain(source)


@torch.no_grad()
def sums_of(parameters: Iterable[Tensor]) -> Tensor | None:
    """A checksum of each parameter that trains (of its shard in this process); None if there are none.

    They are on the first one's device, and a GPU is not synchronised. Squares are added because the plain sum does not
    change in front of a softmax, whose gradients add up to 0.
    """
    values = [local_part(parameter).float() for parameter in parameters if parameter.requires_grad]
    sums = [torch.addcmul(each, each, each).sum() for each in values]
    return torch.stack([each.to(sums[0].device) for each in sums]) if sums else None


def _check_precision(name: str, student: torch.dtype, teacher: torch.dtype) -> None:
    if torch.finfo(teacher).eps > torch.finfo(student).eps:
        raise ValueError(
            f"parameter {name!r} is {student} in the student and only {teacher} in the teacher: a term on parameters "
            "would pull the student to rounded values; leave the teacher's dtype as it is"
        )


def _check_unrounded(name: str, now: torch.dtype, then: torch.dtype, teacher: torch.dtype) -> None:
    if now != then and torch.finfo(now).eps > torch.finfo(teacher).eps:
        raise RuntimeError(
            f"parameter {name!r} of the student was {then} and is {now} in this step, {teacher} in the teacher: FSDP's "
            "mixed precision gathers rounded copies, and a term on parameters would count their rounding as distance; "
            "use torch.autocast instead, or if the student was converted, build the regularizer after that"
        )


def _are_sharded(module: nn.Module, pairs: Iterable[tuple[Tensor, Tensor]]) -> bool:
    """Whether FSDP2 or tensor parallelism shards some, or FSDP1 wraps a part of the module or has flattened some."""
    wrapped = any("_fsdp_wrapped_module" in part._modules for part in module.modules())
    return wrapped or any(hasattr(own, "placements") or own.ndim == 1 != source.ndim for own, source in pairs)


def _made(module: nn.Module, names: Iterable[str]) -> Iterator[str]:
    """The names that belong to tensors or computed attributes of the module, not to parameters; none is evaluated."""
    for name in names:
        path, _, last = name.rpartition(".")
        with suppress(ValueError):
            found = inspect.getattr_static(_submodule(module, path), last, None)
            if isinstance(found, Tensor) or hasattr(found, "__get__"):
                yield name


def _warn_of_made(owner: str, names: list[str]) -> None:
    if names:
        warnings.warn(
            f"{len(names)} parameters, {min(names)!r} for example, are not compared: in the {owner} they are made "
            "from others (weight_norm, LoRA, quantised layers); apply the same to student and teacher, or leave the "
            "term out if what they are made from is frozen"
        )


@torch.no_grad()
def _warn_of_new(names: Sequence[str], own: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Warn of parameters that differ from the source's, if most values are still the source's."""
    new = [name for name in names if not _is_at(own[name], source[name])]
    if new and 2 * sum(own[name].numel() for name in new) < sum(own[name].numel() for name in names):
        warnings.warn(
            f"{len(new)} parameters, {new[0]!r} for example, do not start at the source's values, unlike the others, "
            "but the term pulls them there: if they are new, such as a head with as many outputs as the source's, "
            "give each of the other parts a term of its own, student='layer4', teacher='layer4' and so on"
        )


def _is_at(own: Tensor, source: Tensor) -> bool:
    return hasattr(own, "placements") or own.is_meta or source.is_meta or torch.equal(own, source.to(own))


def _submodule(model: nn.Module, path: str) -> nn.Module:
    return find_module(model, path) if path else model


def _plain(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The parameters by name, without the names of wrappers."""
    return {plain_path(name): parameter for name, parameter in named}
