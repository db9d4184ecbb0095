"""A term: what is compared, how, and what it weighs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from xtask_reg.kinds import check_kind
from xtask_reg.losses.penalty import Penalty
from xtask_reg.submodules import may_be_child
from xtask_reg.weights.balanced import Balanced
from xtask_reg.weights.schedule import Schedule, check_value, value_at

Weight = float | Schedule | Balanced
Read = Tensor | Mapping[str, Tensor]
"""What a term reads at a path: the module's output, or its parameters by name."""


class Term(nn.Module):
    """One term of the loss: compares what is read of the student with what is read of the teacher.

    A loss reads the outputs of two submodules. A :class:`~xtask_reg.losses.penalty.Penalty` reads their parameters:
    those that both have under one name and in one shape; the student's others are taken for new.

    A term is for one student: what it has learned and measured (connectors, :class:`~xtask_reg.Balanced`), and a weight
    that was set, go with it into the next regularizer.

    Args:
        loss: a module called with ``(student, teacher)``, or with the student's part alone if there is no ``teacher``;
            it returns a scalar.
        student: dotted path of the student's submodule. For a penalty it may be ``""``, the whole student.
        teacher: dotted path of the teacher's submodule, likewise; None for a loss of the student alone.
        weight: lambda: a finite number that is not negative, a :class:`~xtask_reg.Schedule` or
            :class:`~xtask_reg.Balanced`. A term built with the number 0 is left out altogether.
        name: the key of the term in what the regularizer returns.
        student_connector: applied to the student's output; it trains if its parameters require gradients.
        teacher_connector: applied to the teacher's output, likewise.

    Raises:
        ValueError: for a weight that is negative or not finite, a name that cannot be a key, a penalty with connectors,
            a loss that compares with a teacher but has none, or the reverse.
        TypeError: if the loss or a connector is not a module, or a path is not a string.

    Example:
        >>> hint = Term(HintLoss(), student="encoder.layer4", teacher="layer4", weight=0.1, name="hint")
    """

    def __init__(
        self,
        loss: nn.Module,
        *,
        student: str,
        teacher: str | None = None,
        weight: Weight,
        name: str,
        student_connector: nn.Module | None = None,
        teacher_connector: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not may_be_child(name):
            raise ValueError(
                f"term name {name!r}; expected a non-empty name without dots that nn.ModuleDict does not use"
            )
        _check_paths(name, student, teacher)
        _check_modules(name, loss, student_connector, teacher_connector)
        self.name = name
        self.student = student
        self.teacher = teacher
        self.progress: float | None = None
        self.weighting = check_weight(weight, name)
        self.loss = loss
        self.student_connector: nn.Module = nn.Identity() if student_connector is None else student_connector
        self.teacher_connector: nn.Module = nn.Identity() if teacher_connector is None else teacher_connector
        if self.reads_parameters and (student_connector or teacher_connector):
            raise ValueError(f"term {name!r} compares parameters: it takes no connectors")
        if teacher is None and teacher_connector:
            raise ValueError(f"term {name!r} has a teacher_connector, but no teacher")
        _check_arguments(loss, teacher, name)

    @property
    def reads_parameters(self) -> bool:
        """Whether the term compares parameters instead of outputs."""
        return isinstance(self.loss, Penalty)

    @property
    def weight(self) -> float:
        """Lambda at the current progress of training."""
        if isinstance(self.weighting, Balanced):
            return self.weighting.weight(self.progress)
        return value_at(self.weighting, self.progress)

    def set_weight(self, weight: Weight) -> None:
        """Change the weight.

        Raises:
            ValueError: for one that the constructor would refuse.
        """
        weight = check_weight(weight, self.name)
        self._modules.pop("weighting", None)  # nn.Module refuses to replace a submodule (Balanced) by a number
        self.weighting = weight

    def forward(self, student: Read, teacher: Read | None) -> Tensor:
        """The loss of what was read, before it is weighted.

        Raises:
            TypeError: if the loss is not a scalar; and whatever the loss and the connectors raise.
        """
        try:
            if isinstance(student, Mapping):
                return self._scalar(self.loss(student, teacher))
            connected = [_connect(self.student_connector, student)]
            if isinstance(teacher, Tensor):
                connected.append(_connect(self.teacher_connector, teacher))
            return self._scalar(self.loss(*connected))
        except (ValueError, RuntimeError, TypeError) as error:
            error.add_note(
                f"in term {self.name!r}: student {self.student!r} {_shape(student)}, "
                f"teacher {self.teacher!r} {_shape(teacher)}"
            )
            raise

    def _scalar(self, value: Tensor) -> Tensor:
        expected = "a tensor with one number, the mean over the images for instance"
        check_kind(value, Tensor, f"what {type(self.loss).__name__} gives", expected)
        if value.numel() != 1:
            raise TypeError(f"{type(self.loss).__name__} gives a tensor {tuple(value.shape)}; expected {expected}")
        return value

    def nothing(self, like: Tensor) -> Tensor:
        """Zero, with the connectors in its graph, so that DDP finds no unused parameters after the term has ended."""
        zero = like.new_zeros((), dtype=torch.promote_types(like.dtype, torch.float32))
        return sum((p.flatten()[:0].sum() for p in self.parameters() if p.requires_grad), zero)

    def extra_repr(self) -> str:
        weight = "" if isinstance(self.weighting, Balanced) else f"weight={self.weighting}, "
        return f"{self.name!r}, {weight}student={self.student!r}, teacher={self.teacher!r}"


def _connect(connector: nn.Module, features: Tensor) -> Tensor:
    """Apply a connector; without autocast, convert the features to its precision first."""
    parameter = next(connector.parameters(), features)
    within_autocast = torch.is_autocast_enabled(features.device.type)
    return connector(features if within_autocast else features.to(parameter.dtype))


def _check_paths(name: str, student: object, teacher: object) -> None:
    expected = "the dotted path of a submodule, 'encoder.layer4' for instance"
    check_kind(student, str, f"the student of term {name!r}", expected)
    check_kind(teacher, (str, type(None)), f"the teacher of term {name!r}", f"{expected}, or None")


def _check_modules(name: str, loss: object, *connectors: object) -> None:
    check_kind(loss, nn.Module, f"the loss of term {name!r}", "a module, made by its class: xr.HintLoss()")
    for connector in connectors:
        expected = "a module, nn.Sequential or one of your own for instance, or None"
        check_kind(connector, (nn.Module, type(None)), f"a connector of term {name!r}", expected)


def _check_arguments(loss: nn.Module, teacher: str | None, name: str) -> None:
    arguments = inspect.signature(loss.forward).parameters.values()
    needed = [each.name for each in arguments if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]
    if teacher is None and len(needed) == 2:
        raise ValueError(f"term {name!r} lacks a teacher's path: {type(loss).__name__} compares {' and '.join(needed)}")
    if teacher is not None and len(needed) == 1:
        raise ValueError(f"term {name!r}: {type(loss).__name__} looks at the student alone; no teacher={teacher!r}")


def _shape(read: Read | None) -> str:
    return str(tuple(read.shape)) if isinstance(read, Tensor) else f"{len(read or ())} parameters"


def check_weight(weight: Weight, name: str) -> Weight:
    """``weight``; a number becomes a float.

    Raises:
        ValueError: if it is a number that is negative or not finite, or something else.
    """
    if isinstance(weight, (Schedule, Balanced)):
        return weight
    try:
        return check_value(weight, "weight")
    except ValueError:
        raise ValueError(
            f"term {name!r} has weight {weight!r}; expected a finite number >= 0, a Schedule or Balanced"
        ) from None


def is_left_out(weight: Weight) -> bool:
    """Whether a weight is 0 for good."""
    return (weight.ratio if isinstance(weight, Balanced) else weight) == 0
