"""The gradient of each term beside that of everything else, observed in the backward pass of the training itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from xtask_reg.processes import averaged
from xtask_reg.taps import TapError

Place = str | int
"""Where a term acts: the path of a tap, or the id of a parameter."""


@dataclass
class _Pull:
    """One term's own gradients, not weighted; ``scale`` becomes the factor of the total loss, such as AMP's."""

    gradients: Mapping[Place, Tensor]
    weight: float
    scale: Tensor | None = None

    def weighted(self, place: Place) -> Tensor | float:
        gradient = self.gradients.get(place)
        return 0.0 if gradient is None or self.scale is None else self.scale * self.weight * gradient

    @property
    def is_at_parameters(self) -> bool:
        return any(isinstance(place, int) for place in self.gradients)


class BackwardPasses:
    """Distinguishes the training's backward passes from others, such as those of a gradient penalty."""

    def __init__(self) -> None:
        self._with_terms = False

    def reached_a_term(self) -> None:
        """To be called in a backward pass that reaches a term."""
        if not self._with_terms:
            self._with_terms = True
            torch.autograd.Variable._execution_engine.queue_callback(self._over)

    def _over(self) -> None:
        self._with_terms = False

    def this_one_counts(self) -> bool:
        """Whether the running pass belongs to the training: it builds no graph, or contains terms."""
        return self._with_terms or not torch.is_grad_enabled()


class GradientMeasurement:
    """The gradients of one step's terms, and of everything else (the rest), at the places where the terms act.

    Each term's own loss is differentiated down to that place; the rest is read from the training's own backward pass,
    or passes. All have the same loss scale, so that their ratio does not depend on it. Terms that act at the same place
    are not part of each other's rest. A pass that builds a graph counts only if it contains a term: that of
    ``torch.autograd.grad(..., create_graph=True)``, for a gradient penalty, is not the training's.
    """

    def __init__(self) -> None:
        self._passes = BackwardPasses()
        self._handles: dict[Place, RemovableHandle] = {}
        self._totals: dict[Place, Tensor] = {}
        self._pulls: dict[str, _Pull] = {}

    def at_output(self, path: str, output: Tensor) -> Tensor:
        """Measure at a tap; returns its output in float32, which the terms must be given instead."""
        self._handles[path] = self._watched(_producer(output), path)
        return output.to(torch.promote_types(output.dtype, torch.float32))

    def at_parameters(self, parameters: Sequence[Tensor]) -> None:
        """Measure at parameters that train."""
        for parameter in parameters:
            if id(parameter) not in self._handles:
                edge = get_gradient_edge(parameter)
                self._handles[id(parameter)] = self._watched(edge, id(parameter))

    def add(self, name: str, at: Mapping[Place, Tensor], value: Tensor, weighted: Tensor, weight: float) -> None:
        """Measure a term.

        Args:
            name: the term's.
            at: where it acts.
            value: its loss, a scalar.
            weighted: ``weight * value``, which becomes part of the total loss.
            weight: lambda.
        """
        gradients = torch.autograd.grad(value, list(at.values()), retain_graph=True, allow_unused=True)
        reached = {place: gradient for place, gradient in zip(at, gradients, strict=True) if gradient is not None}
        if not reached:
            return
        pull = self._pulls[name] = _Pull(reached, weight)

        def add_scale(gradient: Tensor) -> None:
            self._passes.reached_a_term()
            pull.scale = gradient.detach() if pull.scale is None else pull.scale + gradient.detach()

        weighted.register_hook(add_scale)

    def _watched(self, edge: GradientEdge, place: Place) -> RemovableHandle:
        """Add up the gradients that arrive at an edge (not those of an ``autograd.grad`` that ends there)."""
        node, index, *_ = edge

        def add(gradients: Sequence[Tensor | None]) -> None:
            gradient = gradients[index]
            if gradient is not None and self._passes.this_one_counts():
                # cloned, since the gradient may become ``parameter.grad``, which clipping changes in place
                own = gradient.detach()
                self._totals[place] = self._totals[place] + own if place in self._totals else own.clone()

        return node.register_prehook(add)

    @property
    def was_reached(self) -> bool:
        """Whether a backward pass has reached one of the places."""
        return bool(self._totals)

    def close(self) -> None:
        """Ignore further backward passes."""
        for handle in self._handles.values():
            handle.remove()

    def norms(self) -> dict[str, Tensor]:
        """For each term the gradient norms of the rest and of the term, not weighted, shape ``(2,)``.

        Terms that the backward pass did not reach are left out. A rest within rounding error is 0.
        """
        return {
            name: _norms(pull, *self._rest(pull), pull.scale)
            for name, pull in self._pulls.items()
            if pull.scale is not None and self._totals.keys() & pull.gradients.keys()
        }

    def norms_of_means(self, names: Iterable[str]) -> dict[str, Tensor]:
        """:meth:`norms` of the processes' mean gradients, for terms that act at parameters.

        DDP averages the gradients of parameters; those of outputs belong to each process's own images.

        Args:
            names: of terms that :meth:`norms` has in all processes, each of which must call this.
        """
        found = {}
        for name in names:
            pull = self._pulls[name]
            if pull.is_at_parameters and pull.scale is not None:
                rest, rounding = self._rest(pull)
                *rest, rounding, scale = averaged([*rest, rounding, pull.scale])
                found[name] = _norms(pull, rest, rounding, scale)
        return found

    def _rest(self, pull: _Pull) -> tuple[list[Tensor], Tensor]:
        """The gradients of the rest where a term acts, and the norm below which they are rounding error."""
        totals = {place: self._totals[place] for place in pull.gradients if place in self._totals}
        pulls = self._pulls.values()
        rest = [total.float() - sum(each.weighted(place) for each in pulls) for place, total in totals.items()]
        rounding = max(_rounding(total.dtype) for total in totals.values()) * _norm(map(Tensor.float, totals.values()))
        return rest, rounding


def _rounding(dtype: torch.dtype) -> float:
    """The relative error between a gradient and the same gradient computed a second time."""
    return max(torch.finfo(dtype).eps, 1e-5)


def _norms(pull: _Pull, rest: Sequence[Tensor], rounding: Tensor, scale: Tensor) -> Tensor:
    norm = _norm(rest)
    return torch.stack([torch.where(norm < rounding, 0, norm), scale.abs() * _norm(pull.gradients.values())])


def _norm(gradients: Iterable[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))


def _producer(copy: Tensor) -> GradientEdge:
    """The edge at which the whole gradient arrives of the tensor that ``copy`` is a copy of."""
    inputs = get_gradient_edge(copy).node.next_functions
    producers = [GradientEdge(node, index) for node, index in inputs if node is not None]
    if len(producers) != 1:
        raise TapError(
            "the gradient at a tap cannot be measured within a graph of torch.compile: compile after tapping"
        )
    return producers[0]
