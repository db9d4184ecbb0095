"""The measurements of one step: the terms' gradients, and the similarity of the stages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set

import torch
from torch import Tensor, nn

from xtask_reg.measuring.gradients import GradientMeasurement, Place
from xtask_reg.measuring.similarity import linear_cka, mean_cosine
from xtask_reg.term import Read, Term

Connectors = tuple[nn.Module | None, nn.Module | None]
"""The connectors that bring the features of student and teacher at a stage into one order."""


class MeasuredStep:
    """The measurements of one step of the regularizer.

    Args:
        terms: names of the terms whose gradients are measured.
        balancing: those of them whose weight depends on it.
        stages: where student and teacher are compared, the teacher's paths by the student's.
        connectors: of stages whose maps are not ``(B, C, *spatial)``, and whose other features are not ``(B, N, C)``,
            by the student's paths.
        student: a checksum of the student's state; None if that does not matter.
    """

    def __init__(
        self,
        terms: Set[str] = frozenset(),
        balancing: Set[str] = frozenset(),
        stages: Mapping[str, str] | None = None,
        connectors: Mapping[str, Connectors] | None = None,
        student: Tensor | None = None,
    ) -> None:
        self.terms = terms
        self.balancing = balancing
        self.stages = stages or {}
        self._connectors = connectors or {}
        self.student = student
        self._gradients = GradientMeasurement()
        self._weights: dict[str, float] = {}
        self._values: dict[str, Tensor] = {}

    @torch.no_grad()
    def compare(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
        """Compare the student with the teacher at the stages."""
        for path, target in self.stages.items():
            own, other = self._connectors.get(path, (None, None))
            student, teacher = _in_order(outputs[path].detach(), own), _in_order(targets[target], other)
            if student.shape == teacher.shape:
                self._values[f"cosine/{path}"] = mean_cosine(student, teacher)
            try:
                self._values[f"cka/{path}"] = linear_cka(student, teacher)
            except ValueError as error:
                error.add_note(f"at the monitored stage {path!r}, with {target!r} of the teacher")
                raise

    def watched(self, terms: Iterable[Term], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the terms must be given instead of the student's outputs.

        It is not kept here, since after a failed step it would keep the graph alive.
        """
        taps = {term.student for term in terms if term.name in self.terms and not term.reads_parameters}
        return {
            path: self._gradients.at_output(path, output) if path in taps and output.requires_grad else output
            for path, output in outputs.items()
        }

    def weighted(self, term: Term, student: Read, teacher: Read | None) -> Tensor:
        """The weighted loss of a term, given what :meth:`watched` gave."""
        weight = term.weight
        if term.name not in self.terms:
            return weight * term(student, teacher)
        at: dict[Place, Tensor] = {}
        if not isinstance(student, Tensor):
            at = {id(each): each for each in student.values() if each.requires_grad}
            self._gradients.at_parameters(list(at.values()))
        elif student.requires_grad:
            at = {term.student: student}
            if isinstance(teacher, Tensor) and teacher.is_floating_point():  # like the student's outputs
                teacher = teacher.to(torch.promote_types(teacher.dtype, torch.float32))
        value = term(student, teacher)
        weighted = weight * value
        if at and value.requires_grad:
            self._gradients.add(term.name, at, value, weighted, weight)
        self._weights[term.name] = weight
        self._values[f"value/{term.name}"] = value.detach()
        return weighted

    @property
    def was_reached(self) -> bool:
        """Whether a backward pass has reached the terms, or none is awaited."""
        return not self.terms or self._gradients.was_reached

    def close(self) -> None:
        """Ignore further backward passes."""
        self._gradients.close()

    def norms(self) -> dict[str, tuple[float, float]]:
        """For each measured term the gradient norms of the rest and of the term, not weighted; NaN if unknown."""
        found = self._gradients.norms()
        return {name: tuple(found[name].tolist()) if name in found else (math.nan, math.nan) for name in self.terms}

    def norms_of_means(self, norms: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """The norms of the processes' mean gradients, for terms at parameters; each process must call this.

        Args:
            norms: those of all processes together, which show what is known in each.
        """
        known = [name for name, (rest, _) in norms.items() if not math.isnan(rest)]
        return {name: tuple(found.tolist()) for name, found in self._gradients.norms_of_means(known).items()}

    def report(self, norms: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        """Everything that was measured; ``norms`` may be those of all processes."""
        ratios = {
            f"ratio/{name}": weight * norms[name][1] / norms[name][0] if norms[name][0] else math.nan
            for name, weight in self._weights.items()
        }
        weights = {f"weight/{name}": weight for name, weight in self._weights.items()}
        return {**{key: value.item() for key, value in self._values.items()}, **weights, **ratios}


def _in_order(features: Tensor, connector: nn.Module | None) -> Tensor:
    return features if connector is None else connector(features)
