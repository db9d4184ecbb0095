"""Compares runs with the first one that had the same test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xtask_reg.landmarks.comparison import PairedDifference, paired_difference
from xtask_reg.landmarks.predictions import Predictions
from xtask_reg.report_page.run import Run, tested_alike


@dataclass(frozen=True)
class Comparison:
    """Runs that were tested on the same images, with the same true points and errors in the same pixels.

    Attributes:
        reference: the name of the first of them.
        unit: of the errors.
        differences: of each other run from it, by name.
    """

    reference: str
    unit: str
    differences: Mapping[str, PairedDifference]


def comparisons(runs: Sequence[Run]) -> Iterator[Comparison]:
    """One comparison for each test with several runs."""
    for _, group in tested_alike(runs, _test):
        (reference, first), *others = group.items()
        if others:
            differences = {name: paired_difference(other.errors, first.errors) for name, other in others}
            yield Comparison(reference, first.reading.unit, differences)


def _test(predictions: Predictions) -> tuple[Any, ...]:
    """A key that is equal for equal tests: images, true points, and the unit, which depends on the input's size."""
    arrays = (predictions.target, predictions.visible, predictions.scale)
    points = tuple(array.tobytes() for array in arrays)
    reading = predictions.reading
    return tuple(predictions.images), tuple(predictions.landmarks), reading.reduction, reading.space, points
