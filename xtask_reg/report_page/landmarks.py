"""Which landmarks are found well, and which are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xtask_reg.landmarks.predictions import LandmarkError, Predictions
from xtask_reg.report_page.run import Run, tested_alike


@dataclass(frozen=True)
class LandmarkTable:
    """The errors of landmarks, one row each, for runs that were tested on the same landmarks in the same unit.

    Attributes:
        unit: of the errors.
        runs: their names.
        rows: by landmark, one entry per run; sorted by the error of the first run, the greatest first.
    """

    unit: str
    runs: Sequence[str]
    rows: Mapping[str, Sequence[LandmarkError]]


def landmark_tables(runs: Sequence[Run]) -> Iterator[LandmarkTable]:
    """One table for each unit and list of landmarks."""
    for (unit, _), group in tested_alike(runs, _landmarks):
        found = [predictions.by_landmark for predictions in group.values()]
        rows = sorted(zip(*found, strict=True), key=lambda row: row[0].mean if row[0].images else -1, reverse=True)
        yield LandmarkTable(unit, list(group), {row[0].name: row for row in rows})


def _landmarks(predictions: Predictions) -> tuple[str, tuple[str, ...]]:
    return predictions.reading.unit, tuple(predictions.landmarks)
