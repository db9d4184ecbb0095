"""Weights as functions of the progress of training, which is 0 at its first step and 1 at its end.

They have no state, so a resumed run needs only its progress. Once a schedule stays at 0 its term has ended, and the
teacher no longer runs for it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real


class Schedule(ABC):
    """A weight, or a ratio, that changes during training."""

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """The value at ``progress``, 0 to 1."""


@dataclass(frozen=True)
class Decay(Schedule):
    """From ``start`` to ``end`` between ``begin`` and ``until``; constant before and after.

    Subclasses define the curve.
    """

    start: float
    end: float = 0.0
    begin: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        check_value(self.start, "start")
        check_value(self.end, "end")
        check_fractions([self.begin, self.until])

    def __call__(self, progress: float) -> float:
        done = min(max((progress - self.begin) / (self.until - self.begin), 0.0), 1.0)
        return self.end + (self.start - self.end) * self.left(done)

    @abstractmethod
    def left(self, done: float) -> float:
        """How much of the way is left, from 1 to 0, after the fraction ``done`` of the time."""


@dataclass(frozen=True)
class LinearDecay(Decay):
    """From ``start`` to ``end`` in a straight line, between ``begin`` and ``until``; constant before and after.

    Args:
        start: the value up to ``begin``.
        end: the value from ``until`` on; 0 ends the term. It may be larger than ``start``.
        begin: fraction of the training, 0 to 1.
        until: fraction of the training, larger than ``begin``, at most 1.

    Raises:
        ValueError: for a negative or infinite value, or fractions out of order.
    """

    def left(self, done: float) -> float:
        return 1 - done


@dataclass(frozen=True)
class CosineDecay(Decay):
    """From ``start`` to ``end`` along half a cosine, between ``begin`` and ``until``; constant before and after.

    Args:
        start: the value up to ``begin``.
        end: the value from ``until`` on; 0 ends the term. It may be larger than ``start``.
        begin: fraction of the training, 0 to 1.
        until: fraction of the training, larger than ``begin``, at most 1.

    Raises:
        ValueError: for a negative or infinite value, or fractions out of order.
    """

    def left(self, done: float) -> float:
        return (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Steps(Schedule):
    """A piecewise constant value.

    Args:
        values: the values in order; the first one holds from the start.
        at: the fractions of the training at which the next ones begin, in order; one fewer than ``values``.

    Raises:
        ValueError: for a negative or infinite value, or fractions that are out of order or not one fewer than the
            values.
    """

    values: Sequence[float]
    at: Sequence[float]

    def __post_init__(self) -> None:
        for value in self.values:
            check_value(value, "values")
        check_fractions(self.at)
        if len(self.values) != len(self.at) + 1:
            raise ValueError(f"{len(self.values)} values with {len(self.at)} changes at {self.at}; expected one more")

    def __call__(self, progress: float) -> float:
        return self.values[sum(progress >= change for change in self.at)]


@dataclass(frozen=True)
class Warmup(Schedule):
    """Grows in a straight line from 0 to a number, or to another schedule, which it multiplies.

    Args:
        to: the number or the schedule.
        until: fraction of the training at which it is reached, above 0 and at most 1.

    Raises:
        ValueError: for a negative or infinite number, or a fraction out of range.
    """

    to: float | Schedule
    until: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.to, Schedule):
            check_value(self.to, "to")
        check_fractions([0.0, self.until])

    def __call__(self, progress: float) -> float:
        return value_at(self.to, progress) * min(progress / self.until, 1.0)


def value_at(value: float | Schedule, progress: float | None) -> float:
    """A number, or a schedule's value at ``progress``, as a Python float, which JSON can store.

    Raises:
        RuntimeError: if ``progress`` is needed but unknown.
    """
    if not isinstance(value, Schedule):
        return float(value)
    if progress is None:
        raise RuntimeError(f"{value} changes during training: set regularizer.progress = step / steps before each step")
    return float(value(progress))


def check_value(value: float, name: str) -> float:
    """``value`` as a float; raises ``ValueError`` unless it is a finite number >= 0."""
    if not (isinstance(value, Real) and value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name}={value!r}; expected a finite number >= 0")
    return float(value)


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise ``ValueError`` unless these are numbers from 0 to 1, each larger than the one before."""
    numbers = all(isinstance(fraction, Real) and 0 <= fraction <= 1 for fraction in fractions)
    if not (numbers and all(one < other for one, other in pairwise(fractions))):
        raise ValueError(f"{list(fractions)}; expected fractions of the training, 0 to 1, each larger than the last")
