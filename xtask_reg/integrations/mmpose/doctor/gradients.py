"""Where the gradient of a loss goes, and how large it is there."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Gradients:
    """The gradients of one loss.

    Args:
        taps: at the tapped outputs, by path; None where the loss does not reach.
        first_layer: at all parameters of the first trainable layer, flattened together; None if it reaches none.
        reached: names of the parameters that got a gradient.
        not_finite: those of them whose gradient has a value that is not finite.
    """

    taps: dict[str, Tensor | None] = field(default_factory=dict)
    first_layer: Tensor | None = None
    reached: set[str] = field(default_factory=set)
    not_finite: set[str] = field(default_factory=set)


def gradients_of(
    model: nn.Module, loss: Tensor, taps: dict[str, Tensor], first_layer: str | None, scale: float
) -> Gradients:
    """The gradients of a loss, in float32; none stays in the model, and the graph is kept.

    With mixed precision small gradients vanish unless the loss is scaled, and large ones overflow if it is: the scale
    is lowered as training would lower it. ``backward()`` is used, as reentrant activation checkpointing needs it.

    Args:
        model: owns the parameters.
        loss: a scalar.
        taps: outputs within its graph, by path.
        first_layer: path of the layer whose gradients are wanted whole.
        scale: by which mixed precision multiplies the loss; 1 without.
    """
    found = Gradients()
    if not loss.requires_grad:
        found.taps = dict.fromkeys(taps)
        return found
    tapped = {path: output for path, output in taps.items() if output.requires_grad}
    for output in tapped.values():
        output.retain_grad()
    while True:
        model.zero_grad(set_to_none=True)
        for output in tapped.values():
            output.grad = None
        (loss * scale).backward(retain_graph=True)
        found = _collect(model, taps, first_layer, scale)
        if scale <= 1 or not found.not_finite:
            break
        scale /= 16
    model.zero_grad(set_to_none=True)
    return found


def _collect(model: nn.Module, taps: dict[str, Tensor], first_layer: str | None, scale: float) -> Gradients:
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return Gradients(
        taps={path: _unscaled(output.grad if output.requires_grad else None, scale) for path, output in taps.items()},
        first_layer=_unscaled(_joined(model, first_layer), scale),
        reached=set(gradients),
        not_finite={name for name, gradient in gradients.items() if not gradient.isfinite().all()},
    )


def _unscaled(gradient: Tensor | None, scale: float) -> Tensor | None:
    return None if gradient is None else gradient.float() / scale


def _joined(model: nn.Module, layer: str | None) -> Tensor | None:
    """The gradients of a layer's own parameters in one vector; None if there are none."""
    if layer is None:
        return None
    own = [parameter for parameter in model.get_submodule(layer).parameters(recurse=False) if parameter.requires_grad]
    if all(parameter.grad is None for parameter in own):
        return None
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in own])
