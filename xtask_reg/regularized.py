"""Student and regularizer as one module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from xtask_reg.kinds import check_kind
from xtask_reg.regularizer import CrossTaskRegularizer


class Regularized(nn.Module):
    """A student and its regularizer as one module, which is what ``DistributedDataParallel`` wraps.

    It is called like the student, and returns the student's output and the weighted terms by name. With ``unlabelled``
    images the terms are those on these images, see :meth:`CrossTaskRegularizer.on`.

    Under FSDP, ``fully_shard`` its ``regularizer`` as well as the student's layers, before the whole.

    Args:
        student: the network to train.
        regularizer: the one made for this student.

    Raises:
        TypeError: if ``regularizer`` is not a :class:`CrossTaskRegularizer`.
        TapError: in the call, as :class:`CrossTaskRegularizer` does, whose other errors are passed on as well.

    Example:
        >>> model = DistributedDataParallel(Regularized(student, regularizer))
        >>> output, terms = model(images)
        >>> (criterion(output, target) + sum(terms.values())).backward()
    """

    __call__: Callable[..., tuple[Any, dict[str, Tensor]]]

    def __init__(self, student: nn.Module, regularizer: CrossTaskRegularizer) -> None:
        super().__init__()
        check_kind(regularizer, CrossTaskRegularizer, "the regularizer", "xr.ctd(student, ...) for instance")
        self.student = student
        self.regularizer = regularizer

    def forward(self, *args: Any, unlabelled: Tensor | None = None, **kwargs: Any) -> tuple[Any, dict[str, Tensor]]:
        output = self.student(*args, **kwargs)
        return output, self.regularizer() if unlabelled is None else self.regularizer.on(unlabelled)
