"""Half the squared distance of many pairs of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

AT_A_TIME = 2**16
"""A CPU sums up at most so many numbers one after the other: with millions it would lose digits."""


class HalfSquaredDistance(torch.autograd.Function):
    """Over many pairs of tensors in a few kernels: with one kernel per parameter, a GPU would wait for the CPU."""

    @staticmethod
    def forward(*tensors: Tensor) -> Tensor:
        student, teacher = _halves(tensors)
        parts = [part for each in torch._foreach_sub(student, teacher) for part in _parts(each)]
        return torch.stack(torch._foreach_norm(parts)).square().sum() / 2

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        student, teacher = _halves(ctx.saved_tensors)
        gradients: Sequence[Tensor]
        if torch.is_grad_enabled():  # for a second derivative, which _foreach functions lack
            gradients = [(own - other) * gradient for own, other in zip(student, teacher)]
        else:
            gradients = torch._foreach_mul(torch._foreach_sub(student, teacher), gradient)
        needed = ctx.needs_input_grad[len(student) :]
        return (*gradients, *(-each if own else None for each, own in zip(gradients, needed)))


def _parts(tensor: Tensor) -> Sequence[Tensor]:
    """Views of a tensor on the CPU (in the memory format channels_last too); other tensors stay whole."""
    if not tensor.is_cpu or tensor.numel() <= AT_A_TIME:
        return [tensor]
    rows = AT_A_TIME * len(tensor) // tensor.numel()
    return tensor.split(rows) if rows else tensor.flatten().split(AT_A_TIME)


def _halves(both: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return both[: len(both) // 2], both[len(both) // 2 :]
