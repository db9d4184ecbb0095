"""How strongly each term pulls at the student beside everything else, seen in the backward pass of training itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from xtask_reg.taps import TapError


@dataclass
class _Pull:
    """One term's own gradients, before its weight and whatever multiplies the total loss (which ``scale`` becomes)."""

    gradients: Sequence[Tensor | None]
    weight: float
    scale: Tensor | None = None

    def weighted(self, index: int) -> Tensor | float:
        gradient = self.gradients[index]
        return 0.0 if gradient is None or self.scale is None else self.scale * self.weight * gradient


@dataclass
class _Place:
    """Tensors of the student at which terms act, and the gradients that reach them in the step's backward."""

    tensors: Sequence[Tensor]
    totals: list[Tensor | None]
    pulls: dict[str, _Pull] = field(default_factory=dict)

    def norms(self) -> dict[str, Tensor]:
        rest = [
            total.float() - sum(pull.weighted(index) for pull in self.pulls.values())
            for index, total in enumerate(self.totals)
            if total is not None
        ]
        return {
            name: torch.stack([_norm(rest), pull.scale.abs() * _norm(pull.gradients)])
            for name, pull in self.pulls.items()
            if pull.scale is not None and rest
        }


class GradientMeasurement:
    """The gradients of the terms of one step, and of all else, where the terms act.

    Each term's own loss is differentiated down to that place; the rest is read from the backward pass that the training
    makes anyway. Both are seen under the same loss scale, so that their ratio does not depend on it.
    """

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def at_output(self, path: str, output: Tensor) -> Tensor:
        """Measure at a tap; returns what the terms must be given instead of its output: the same in float32."""
        if path not in self._places:
            exact = output.to(torch.promote_types(output.dtype, torch.float32))
            place = self._places[path] = _Place([exact], [None])
            _watch_producer(output, _keep_in(place.totals, 0))
        return self._places[path].tensors[0]

    def at_parameters(self, path: str, parameters: Sequence[Tensor]) -> None:
        """Measure at parameters that train."""
        if path not in self._places:
            place = self._places[path] = _Place(list(parameters), [None] * len(parameters))
            for index, parameter in enumerate(parameters):
                _once(parameter.register_hook, _keep_in(place.totals, index))

    def add(self, path: str, name: str, value: Tensor, weighted: Tensor, weight: float) -> None:
        """Measure a term.

        Args:
            path: where it acts.
            name: the term's.
            value: its loss, a scalar.
            weighted: ``weight * value``, which becomes part of the total loss.
            weight: lambda.
        """
        tensors = self._places[path].tensors
        gradients = torch.autograd.grad(value, tensors, retain_graph=True, allow_unused=True)
        pull = self._places[path].pulls[name] = _Pull([g if g is None else g.detach() for g in gradients], weight)

        def keep_scale(gradient: Tensor) -> None:
            pull.scale = gradient.detach()

        weighted.register_hook(keep_scale)

    def let_go(self) -> None:
        """Forget the graph: the forward pass is over."""
        for place in self._places.values():
            place.tensors = ()

    def norms(self) -> dict[str, Tensor]:
        """For each term the norms of all else and of the term before its weight, shape ``(2,)``.

        Terms that the backward pass did not reach are left out.
        """
        found: dict[str, Tensor] = {}
        for place in self._places.values():
            found.update(place.norms())
        return found


def _norm(gradients: Sequence[Tensor | None]) -> Tensor:
    each = [torch.linalg.vector_norm(gradient) for gradient in gradients if gradient is not None]
    return torch.linalg.vector_norm(torch.stack(each))


def _keep_in(totals: list[Tensor | None], index: int) -> Callable[[Tensor], None]:
    def keep(gradient: Tensor) -> None:
        totals[index] = gradient.detach()

    return keep


def _watch_producer(copy: Tensor, keep: Callable[[Tensor], None]) -> None:
    """Call ``keep`` with the whole gradient of the tensor that ``copy`` is a copy of, however it is used."""
    producers = [edge for edge in get_gradient_edge(copy).node.next_functions if edge[0] is not None]
    if len(producers) != 1:
        raise TapError("the gradient at a tap cannot be seen within a graph of torch.compile: compile after tapping")
    node, index = producers[0]

    def read(gradients: Sequence[Tensor | None]) -> None:
        if gradients[index] is not None:
            keep(gradients[index])

    _once(node.register_prehook, read)


def _once(register: Callable[..., Any], hook: Callable[[Any], None]) -> None:
    """Register a hook that removes itself when it is called."""

    def call(given: Any) -> None:
        handle.remove()
        hook(given)

    handle = register(call)
