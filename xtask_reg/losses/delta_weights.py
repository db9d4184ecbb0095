"""The channel attention of DELTA: which channels of the source matter most to the new task."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.losses.temperature import check_temperature


def delta_channel_weights(
    module: nn.Module,
    evaluate: Callable[[], float],
    *,
    temperature: float = 5.0,
    standardize: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    r"""Weights for a module's output channels, by how much the loss rises without each of them.

    .. math:: W_j = \operatorname{softmax}_j \bigl(d_j / T\bigr), \quad d_j = L(\text{without channel } j) - L

    Source: Li et al., "DELTA: Deep Learning Transfer using Feature Map with Attention for Convolutional Networks", ICLR
    2019. The paper's equation is ``standardize=False, temperature=1``. As task losses hardly notice one channel, that
    is close to 1 / C each; the authors' code standardizes the differences (:math:`(d - \bar d) / \sigma_d`) and divides
    by 5, the default here; it evaluates four batches of the training set. L itself does not change the softmax, and is
    not computed.

    Costs C evaluations: for the 2048 channels of a ResNet-50 and four batches of 0.1 s, 14 minutes. Keep the result,
    ``torch.save(weights, path)``; it depends on the source and the task only.

    Args:
        module: the submodule of the source network that the term taps, in eval mode, as called by ``evaluate``. Its
            output is one tensor with channels in dimension 1.
        evaluate: the loss of the new task over the same labelled batches each time: of the source network behind a head
            that was trained on its frozen features. It is called without gradients.
        temperature: T, positive.
        standardize: whether the differences are brought to mean 0 and standard deviation 1 first.
        progress: called with (evaluated channels, C) after each.

    Returns:
        ``(C,)`` on the CPU, positive, sum 1: ``DELTALoss(channel_weights=...)``.

    Raises:
        ValueError: if the module is in training mode, or a loss or the temperature is not finite.
        TypeError: if its output is not one tensor ``(B, C, ...)``.
        RuntimeError: if ``evaluate`` does not call it.
    """
    check_temperature(temperature)
    if module.training:
        raise ValueError(
            f"the {type(module).__name__} is in training mode, where evaluations differ and change its statistics: "
            "call eval() on the network"
        )
    losses: list[float] = []
    channels = 1  # the first evaluation finds the true number
    while len(losses) < channels:
        without = _Without(len(losses))
        losses.append(_loss(module, without, evaluate))
        if without.channels is None:
            raise RuntimeError(
                f"evaluate() did not call the {type(module).__name__}: give the module of the network that it calls"
            )
        channels = without.channels
        if progress is not None:
            progress(len(losses), channels)
    differences = torch.tensor(losses, dtype=torch.float64)
    if standardize:
        differences = _standardized(differences)
    return (differences / temperature).softmax(dim=0).to(torch.float32)


def _loss(module: nn.Module, without: _Without, evaluate: Callable[[], float]) -> float:
    with module.register_forward_hook(without), torch.no_grad():
        loss = float(evaluate())
    if not math.isfinite(loss):
        raise ValueError(f"the loss without channel {without.channel} is {loss}; expected a finite number")
    return loss


def _standardized(differences: Tensor) -> Tensor:
    deviations = differences - differences.mean()
    spread = deviations.square().mean().sqrt()
    return deviations / spread if spread > 0 else deviations


class _Without:
    """A forward hook that sets one channel to 0, and notes how many there are."""

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.channels: int | None = None

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim < 2:
            found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise TypeError(f"the {type(module).__name__} returns {found}; expected one tensor (B, C, ...)")
        self.channels = output.shape[1]
        return output.index_fill(1, torch.tensor([self.channel], device=output.device), 0)
