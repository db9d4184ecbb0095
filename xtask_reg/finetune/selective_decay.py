"""Selective projection decay: limits steps that move away from the source against the gradient (Tian et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xtask_reg.kinds import check_kind
from xtask_reg.weights.schedule import check_value


class SelectiveProjectionDecay:
    r"""After each step of an optimizer, draws parameters back to the source's where the gradient points there too.

    For each parameter tensor, with theta_0 the source's, theta_{t-1} the one before the step, g_t its gradient, and
    theta~_t what the optimizer made of it:

    .. math::
        c_t = -\langle g_t, \theta_{t-1} - \theta_0 \rangle, \qquad
        r_t = \operatorname{clip}\left(\frac{\|\tilde\theta_t - \theta_0\| - \|\theta_{t-1} - \theta_0\|}
        {\|\tilde\theta_t - \theta_0\|}, 0, 1\right)

        \theta_t = \tilde\theta_t - \lambda r_t (\tilde\theta_t - \theta_0) \text{ if } c_t < 0,
        \text{ else } \tilde\theta_t

    With lambda = 1 a tensor returns to the distance from the source that it had before. Source: Tian, Huang and Kira,
    "Rethinking Weight Decay for Robust Fine-Tuning of Foundation Models", NeurIPS 2024, who use it instead of Adam's
    weight decay: give the optimizer none. It is for optimizers whose steps are not along the gradient (momentum, Adam):
    where c_t < 0, plain SGD steps towards the source anyway, and unless it overshoots r_t is 0.

    It acts on every step after its construction. The gradient is the one that the step finds (clipped, averaged over
    processes), or that its closure computes first, and its negative for ``maximize=True``. A step that AMP's
    ``GradScaler`` skips changes nothing. Parameters without a gradient are left alone.

    Args:
        optimizer: any ``torch.optim`` optimizer.
        parameters: the student's parameters by name, not its state dict, whose tensors have no gradients.
        source: the source's tensors by the same names, copied here; others are ignored. A state dict will do.
        weight: lambda, finite and not negative.

    Raises:
        ValueError: for a bad weight, a parameter that the source does not have in its shape, or one that trains but is
            not the optimizer's.
        TypeError: for a tensor that is not a parameter, or arguments that are not mappings by name.

    Example:
        >>> optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
        >>> SelectiveProjectionDecay(optimizer, dict(student.encoder.named_parameters()), source.state_dict())
    """

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Mapping[str, Tensor],
        source: Mapping[str, Tensor],
        weight: float = 1.0,
    ) -> None:
        self.weight = check_value(weight, "weight")
        _check(optimizer, parameters, source)
        self._pairs = [
            (parameter, source[name].detach().to(parameter.device, _wide(parameter), copy=True))
            for name, parameter in parameters.items()
        ]
        self._before: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._handles = [
            optimizer.register_step_pre_hook(self._step_begins),
            optimizer.register_step_post_hook(self._step_ends),
        ]

    def __repr__(self) -> str:
        return f"<SelectiveProjectionDecay: weight {self.weight}, {len(self._pairs)} parameters>"

    def remove(self) -> None:
        """Detach from the optimizer."""
        for handle in self._handles:
            handle.remove()

    def _step_begins(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        self._before = []
        if closure is None:
            self._remember(optimizer)
            return None
        return (optimizer,), {**kwargs, "closure": self._remembering(optimizer, closure)}

    def _remembering(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        """The closure, wrapped: after its first call theta_{t-1} and g_t are recorded."""

        def call() -> Any:
            loss = closure()
            if not self._before:
                self._remember(optimizer)
            return loss

        return call

    @torch.no_grad()
    def _remember(self, optimizer: Optimizer) -> None:
        maximizing = {id(each) for group in optimizer.param_groups if group.get("maximize") for each in group["params"]}
        for parameter, source in self._pairs:
            if parameter.grad is not None:
                offset = parameter - source
                along = (parameter.grad * offset).sum()
                condition = along if id(parameter) in maximizing else -along
                self._before.append((parameter, source, condition, offset.norm()))

    @torch.no_grad()
    def _step_ends(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for parameter, source, condition, distance in self._before:
            offset = parameter - source
            length = offset.norm()
            ratio = ((length - distance) / length).clamp(0, 1)
            ratio = torch.where(condition < 0, ratio, 0)  # at the source itself the ratio is 0 / 0
            parameter.sub_(self.weight * ratio * offset)
        self._before = []


def _wide(parameter: Tensor) -> torch.dtype:
    return torch.promote_types(parameter.dtype, torch.float32)


def _check(optimizer: Optimizer, parameters: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    check_kind(parameters, Mapping, "the argument parameters", "parameters by name, dict(student.named_parameters())")
    check_kind(source, Mapping, "the argument source", "tensors by name, source.state_dict()")
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in parameters.items():
        if not (parameter.requires_grad or isinstance(parameter, nn.Parameter)):
            raise TypeError(
                f"{name!r} of the student is not a parameter and has no gradient, like the tensors of a state dict: "
                "give the parameters themselves, dict(student.named_parameters())"
            )
        if name not in source:
            raise ValueError(f"the source has no {name!r}: give it the student's names, or leave {name!r} out")
        if source[name].shape != parameter.shape:
            raise ValueError(
                f"{name!r} is {tuple(parameter.shape)} in the student, {tuple(source[name].shape)} in the source"
            )
        if parameter.requires_grad and id(parameter) not in optimized:
            raise ValueError(f"{name!r} is not among the optimizer's parameters: leave it out, or add it there")
