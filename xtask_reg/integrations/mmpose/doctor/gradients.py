"""Where the gradient of a loss arrives, and how large it is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Gradients:
    """The gradients of one loss.

    Args:
        places: at each place, all its tensors in one vector; None where the loss does not reach.
        reached: names of the parameters that got a gradient.
        not_finite: those of them whose gradient has a value that is not finite.
    """

    places: dict[str, Tensor | None] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    not_finite: set[str] = field(default_factory=set)


def gradients_of(model: nn.Module, loss: Tensor, places: Mapping[str, Sequence[Tensor]], scale: float) -> Gradients:
    """The gradients of a loss, in float32; the model keeps none of them, and the graph is retained.

    In mixed precision small gradients vanish unless the loss is scaled, and large ones overflow if it is: the scale is
    lowered as in training. ``backward()`` is used, because reentrant activation checkpointing requires it.

    Args:
        model: owns the parameters.
        loss: a scalar.
        places: parameters, or tensors in the graph, by the name of the place.
        scale: the loss scale of mixed precision; 1 without.
    """
    if not loss.requires_grad:
        return Gradients(dict.fromkeys(places))
    trains = {name: [tensor for tensor in tensors if tensor.requires_grad] for name, tensors in places.items()}
    inner = [tensor for tensors in trains.values() for tensor in tensors if not tensor.is_leaf]
    for tensor in inner:
        tensor.retain_grad()
    while True:
        _clear(model, inner)
        (loss * scale).backward(retain_graph=True)
        found = _collect(model, trains, scale)
        if scale <= 1 or not found.not_finite:
            break
        scale /= 16
    _clear(model, inner)
    return found


def _clear(model: nn.Module, inner: Iterable[Tensor]) -> None:
    model.zero_grad(set_to_none=True)
    for tensor in inner:
        tensor.grad = None


def _collect(model: nn.Module, places: Mapping[str, Sequence[Tensor]], scale: float) -> Gradients:
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return Gradients(
        places={name: _joined(tensors, scale) for name, tensors in places.items()},
        reached=set(gradients),
        not_finite={name for name, gradient in gradients.items() if not gradient.isfinite().all()},
    )


def _joined(tensors: Sequence[Tensor], scale: float) -> Tensor | None:
    """The gradients of several tensors as one vector; None if there are none."""
    if all(tensor.grad is None for tensor in tensors):
        return None
    each = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in tensors]
    return torch.cat([gradient.float().flatten() for gradient in each]) / scale
