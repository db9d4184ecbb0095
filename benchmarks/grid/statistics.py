"""What differences between methods are worth: a hierarchical bootstrap over folds, seeds and images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

LEVEL = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean with the bounds of its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def bootstrap(values: pd.DataFrame, column: str, level: float = LEVEL, resamples: int = RESAMPLES) -> Estimate:
    """The mean of a column and its percentile interval.

    Trainings, that is pairs of fold and seed, are drawn with replacement, then within each as many of its test images
    as it has: what is shared by the images of a training, such as a bad training set, counts once.

    Args:
        values: rows with ``fold``, ``seed`` and the column.
        column: what is averaged over the rows.
        level: of the interval.
        resamples: how many.

    Raises:
        ValueError: if there are no rows.
    """
    if values.empty:
        raise ValueError(f"no rows to average {column!r} of")
    trainings = [own[column].to_numpy() for _, own in values.groupby(["fold", "seed"])]
    random = np.random.default_rng(0)
    sums, counts = np.zeros((2, resamples))
    for _ in trainings:
        drawn = random.integers(len(trainings), size=resamples)
        for number, own in enumerate(trainings):
            here = np.flatnonzero(drawn == number)
            sums[here] += own[random.integers(len(own), size=(len(here), len(own)))].sum(1)
            counts[here] += len(own)
    low, high = np.quantile(sums / counts, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values[column].mean()), float(low), float(high))


def paired(errors: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Differences of the errors of two methods on the same images after the same folds, seeds and labels.

    Returns:
        Rows with ``fold``, ``seed``, ``image``, ``difference``, and the ``reference`` error.

    Raises:
        ValueError: if an image of one has no partner, or several.
    """
    keys = ["fold", "seed", "image"]
    both = errors[[*keys, "error"]].merge(
        reference[[*keys, "error"]], on=keys, how="outer", suffixes=("", "_reference"), validate="one_to_one"
    )
    alone = both[both.isna().any(axis=1)]
    if len(alone):
        raise ValueError(f"{len(alone)} of {len(both)} images were not tested by both methods")
    return both.assign(difference=both.error - both.error_reference)
