"""Decides which steps are measured, and keeps balanced weights and the report up to date."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor

from xtask_reg.measuring.measured_step import MeasuredStep
from xtask_reg.measuring.monitor import Monitor
from xtask_reg.measuring.nothing_to_balance import warn_of_nothing_to_balance
from xtask_reg.parameters import sums_of
from xtask_reg.processes import in_several_processes
from xtask_reg.term import Term
from xtask_reg.weights.balanced import Balanced
from xtask_reg.weights.schedule import value_at


class Meter:
    """Decides which steps are measured, and passes the results to the balanced weights and the report.

    A step's gradients are known only after its backward pass: they are read when the next step begins. Calls without
    gradients, as in a validation, are not steps.

    Args:
        monitor: what to measure besides the needs of balanced weights; None for nothing.
        pairs: where student and teacher are compared: paths ``student`` and ``teacher``, and possibly connectors, named
            as a term's arguments.
    """

    def __init__(self, monitor: Monitor | None, pairs: Sequence[Mapping[str, Any]]) -> None:
        self.monitor = monitor
        self.stages = {pair["student"]: pair["teacher"] for pair in pairs}
        self._connectors = {
            pair["student"]: (pair.get("student_connector"), pair.get("teacher_connector")) for pair in pairs
        }
        self._steps = 0
        self._last: MeasuredStep | None = None
        self._report: dict[str, float] = {}
        self._student: Tensor | None = None
        self.was_measured = False

    @property
    def _watches(self) -> bool:
        """Whether the monitor measures the next step."""
        return self.monitor is not None and self._steps % self.monitor.every == 0

    def idle_stages(self, taps: Set[str]) -> Set[str]:
        """The student's paths that the next step does not need, given the ``taps`` that terms need."""
        return set() if self._watches else self.stages.keys() - taps

    def upcoming(self, terms: Iterable[Term]) -> tuple[list[Term], Mapping[str, str]]:
        """The terms and stages that the next step will compare, as far as is known before it begins."""
        return [term for term in terms if term.weight > 0 or _is_due(term)], self.stages if self._watches else {}

    def begin(self, terms: Iterable[Term], student: Sequence[Tensor]) -> MeasuredStep:
        """Finish the last step, and begin the next one.

        Args:
            terms: all terms.
            student: the student's current parameters.
        """
        if not torch.is_grad_enabled():
            return MeasuredStep()
        terms = list(terms)
        self._finish(terms)
        self._forget_ended(terms)
        watched = self._watches
        balancing = {term.name for term in terms if _is_due(term)}
        places = {_place(term) for term in terms if watched or term.name in balancing}
        active = {term.name for term in terms if term.weight > 0 and _place(term) in places}
        self._steps += 1
        for balanced in _balanced(terms):
            balanced.steps += 1
        state = sums_of(student) if any(balanced.is_new for balanced in _balanced(terms)) else None
        stages = self.stages if watched else {}
        step = MeasuredStep(active | balancing, balancing, stages, self._connectors, state)
        self.was_measured = watched or bool(balancing)
        if self.was_measured:
            self.close()
            self._last = step
        return step

    def report(self) -> dict[str, float]:
        """The latest measurements, by name."""
        return self._report if self._last is None else {**self._report, **self._last.report(self._last.norms())}

    def settle(self, terms: Iterable[Term]) -> None:
        """Read the last step's measurements now, if its backward pass is over.

        In a distributed run they wait for the next step, which all processes begin.
        """
        over = self._last is not None and any(math.isfinite(norm) for norm, _ in self._last.norms().values())
        if over and not in_several_processes():
            self._finish(list(terms))

    def close(self) -> None:
        """Discard measurements that have not been read."""
        if self._last is not None:
            self._last.close()
        self._last = None

    def _finish(self, terms: list[Term]) -> None:
        """Read the last measured step, unless its backward pass is yet to come, as with several calls before it."""
        step = self._last
        if step is None:
            return
        now, before = step.student, self._student
        moved = now is None or before is None or not torch.equal(now, before.to(now.device))
        norms, moved, was_reached = _of_all_processes(step.norms(), moved, step.was_reached)
        if not was_reached:
            return
        if in_several_processes():
            norms |= step.norms_of_means(norms)
        self.close()
        for term in terms:
            balanced = term.weighting
            if isinstance(balanced, Balanced) and term.name in step.balancing and (moved or not balanced.is_new):
                if balanced.update(*norms[term.name]):
                    self._student = step.student
                    warn_of_nothing_to_balance(term, balanced)
        self._report |= step.report(norms)

    def _forget_ended(self, terms: Iterable[Term]) -> None:
        """Of terms that have ended, only their weight 0 stays in the report."""
        for name in (term.name for term in terms if _has_ended(term)):
            if f"weight/{name}" in self._report:
                self._report[f"weight/{name}"] = 0.0
            for kind in ("value", "ratio"):
                self._report.pop(f"{kind}/{name}", None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None, "_report": self.report()}


def _has_ended(term: Term) -> bool:
    balanced = term.weighting
    return (value_at(balanced.ratio, term.progress) if isinstance(balanced, Balanced) else term.weight) == 0


def _is_due(term: Term) -> bool:
    return isinstance(term.weighting, Balanced) and not _has_ended(term) and term.weighting.is_due


def _place(term: Term) -> str | None:
    """Where a term acts. Terms at one place are measured together, as the rest is what remains without all of them."""
    return None if term.reads_parameters else term.student


def _balanced(terms: Iterable[Term]) -> list[Balanced]:
    return [term.weighting for term in terms if isinstance(term.weighting, Balanced)]


def _of_all_processes(
    norms: dict[str, tuple[float, float]], moved: bool, was_reached: bool
) -> tuple[dict[str, tuple[float, float]], bool, bool]:
    """The norms over all batches; whether the student has changed, and a backward pass come, in any process."""
    if not norms or not in_several_processes():
        return norms, moved, was_reached
    names = sorted(norms)
    every: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, ([norms[name] for name in names], moved, was_reached))
    together = {
        name: tuple(math.hypot(*(own[index][part] for own, *_ in every)) for part in (0, 1))
        for index, name in enumerate(names)
    }
    return together, any(each[1] for each in every), any(each[2] for each in every)  # type: ignore[return-value]
