"""The description of a loss for the battery; each file in ``references/`` makes one or more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

Shape = tuple[int, ...]


def at_each_location(student: Tensor, teacher: Tensor) -> list[tuple[list[float], list[float]]]:
    """For references: the class scores of both at each location of each image; a single one for ``(B, C)``."""
    both = [np.moveaxis(each.numpy(), 1, -1).reshape(-1, each.shape[1]).tolist() for each in (student, teacher)]
    return list(zip(*both, strict=True))


@dataclass(frozen=True)
class Case:
    """A loss ``function(student, teacher, **options)``.

    Attributes:
        function: the pure function.
        module: the ``nn.Module`` over it, made by ``module(**options)``.
        reference: the formula written out with loops and NumPy in float64, ``reference(student, teacher, **options)``,
            every option given. It shares no code with the library.
        defaults: all options with their default values (those of the paper, if it states them).
        options: changes of the defaults, each compared with the reference on each of ``shapes``.
        shapes: shapes of the student, which are the teacher's too; the first is used where one is enough.
        other_shapes: pairs of different shapes that fit each other.
        bad_shapes: pairs that must be refused; the message has both.
        bad_options: bad values by option, all refused by function and module with the value in the message.
        alike: changes of the defaults for which ``unchanged_by``, ``lowest`` and ``highest`` hold too.
        unchanged_by: axes along which student and teacher may be tiled without changing the default value; of
            "images", "channels", "resolution".
        lowest: the least value, which identical tensors have; None if identical tensors have no special value.
        highest: the largest value of any input; None if there is none.
        sum_is_means: ``reduction="sum"`` is ``"mean"`` times the number of images.
        alone: the loss has only the student, ``function(student, **options)``; the reference likewise.
    """

    function: Callable[..., Tensor]
    module: type[nn.Module]
    reference: Callable[..., float]
    defaults: dict[str, Any]
    shapes: Sequence[Shape]
    options: Sequence[dict[str, Any]] = ({},)
    other_shapes: Sequence[tuple[Shape, Shape]] = ()
    bad_shapes: Sequence[tuple[Shape, Shape]] = ()
    bad_options: dict[str, Sequence[Any]] = field(default_factory=dict)
    alike: Sequence[dict[str, Any]] = ({},)
    unchanged_by: Sequence[str] = ("images",)
    lowest: float | None = 0.0
    highest: float | None = None
    sum_is_means: bool = True
    alone: bool = False

    @property
    def id(self) -> str:
        return self.module.__name__

    def call(self, loss: Callable[..., Tensor], student: Tensor, teacher: Tensor, **options: Any) -> Tensor:
        """Call the function or a module, ``loss``; without the teacher if the loss has only the student."""
        return loss(student, **options) if self.alone else loss(student, teacher, **options)
