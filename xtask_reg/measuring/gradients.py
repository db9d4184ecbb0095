"""How strongly each term pulls at the student beside everything else, seen in the backward pass of training itself."""

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
    """One term's own gradients, before its weight and whatever multiplies the total loss (which ``scale`` becomes)."""

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
    """Tells the backward passes of the training from those that only look at the student's gradients."""

    def __init__(self) -> None:
        self._with_terms = False

    def reached_a_term(self) -> None:
        """To be called from within a pass that comes by a term."""
        if not self._with_terms:
            self._with_terms = True
            torch.autograd.Variable._execution_engine.queue_callback(self._over)

    def _over(self) -> None:
        self._with_terms = False

    def this_one_counts(self) -> bool:
        """Whether the pass that runs is one of the training: it makes no graph, or it has terms."""
        return self._with_terms or not torch.is_grad_enabled()


class GradientMeasurement:
    """The gradients of the terms of one step, and of all else, where the terms act.

    Each term's own loss is differentiated down to that place; the rest is read from the backward pass that the training
    makes anyway, or from several. All are seen under the same loss scale, so that their ratio does not depend on it.
    Terms that act at the same place are not the rest of one another. A pass that makes a graph counts only if a term is
    in it: ``torch.autograd.grad(..., create_graph=True)``, for a gradient penalty, is none of the training's.
    """

    def __init__(self) -> None:
        self._passes = BackwardPasses()
        self._handles: dict[Place, RemovableHandle] = {}
        self._totals: dict[Place, Tensor] = {}
        self._pulls: dict[str, _Pull] = {}

    def at_output(self, path: str, output: Tensor) -> Tensor:
        """Measure at a tap; returns what the terms must be given instead of its output: the same in float32."""
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
        """Add up the gradients that arrive at an edge (not where ``autograd.grad`` ends at it)."""
        node, index, *_ = edge

        def add(gradients: Sequence[Tensor | None]) -> None:
            gradient = gradients[index]
            if gradient is not None and self._passes.this_one_counts():
                # a copy: the gradient itself may become ``parameter.grad``, which clipping changes in place
                own = gradient.detach()
                self._totals[place] = self._totals[place] + own if place in self._totals else own.clone()

        return node.register_prehook(add)

    @property
    def was_reached(self) -> bool:
        """Whether a backward pass has come by one of the places."""
        return bool(self._totals)

    def close(self) -> None:
        """See no further backward pass."""
        for handle in self._handles.values():
            handle.remove()

    def norms(self) -> dict[str, Tensor]:
        """For each term the norms of all else and of the term before its weight, shape ``(2,)``.

        Terms that the backward pass did not reach are left out. A rest that is no more than rounding is 0.
        """
        return {
            name: _norms(pull, *self._rest(pull), pull.scale)
            for name, pull in self._pulls.items()
            if pull.scale is not None and self._totals.keys() & pull.gradients.keys()
        }

    def norms_of_means(self, names: Iterable[str]) -> dict[str, Tensor]:
        """:meth:`norms` of what the processes have on average, of those terms that act at parameters.

        At outputs each process has images of its own there, but at parameters the student gets the mean.

        Args:
            names: of terms that :meth:`norms` has in all processes, each of which calls this.
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
        """The gradients of all else where a term acts, and the norm up to which they are rounding."""
        totals = {place: self._totals[place] for place in pull.gradients if place in self._totals}
        pulls = self._pulls.values()
        rest = [total.float() - sum(each.weighted(place) for each in pulls) for place, total in totals.items()]
        rounding = max(_rounding(total.dtype) for total in totals.values()) * _norm(map(Tensor.float, totals.values()))
        return rest, rounding


def _rounding(dtype: torch.dtype) -> float:
    """By what part of a gradient its own terms, computed once more, may differ from it."""
    return max(torch.finfo(dtype).eps, 1e-5)


def _norms(pull: _Pull, rest: Sequence[Tensor], rounding: Tensor, scale: Tensor) -> Tensor:
    norm = _norm(rest)
    return torch.stack([torch.where(norm < rounding, 0, norm), scale.abs() * _norm(pull.gradients.values())])


def _norm(gradients: Iterable[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))


def _producer(copy: Tensor) -> GradientEdge:
    """Where the whole gradient of the tensor arrives that ``copy`` is a copy of, however that is used."""
    inputs = get_gradient_edge(copy).node.next_functions
    producers = [GradientEdge(node, index) for node, index in inputs if node is not None]
    if len(producers) != 1:
        raise TapError(
            "the gradient at a tap cannot be measured within a graph of torch.compile: compile after tapping"
        )
    return producers[0]
