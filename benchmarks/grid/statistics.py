"""The uncertainty of differences between methods: a hierarchical bootstrap over folds, seeds and images; a t-test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, ttest_1samp

LEVEL = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean with the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: pd.DataFrame, column: str, resamples: int = RESAMPLES) -> Estimate:
    """The mean of a column and its percentile interval.

    Folds are drawn with replacement, and within each its seeds and its test images, which are the same for every seed.
    So effects that all images of a training share, such as a bad training set, count once, and so do people who are
    tested after several trainings.

    Args:
        values: rows with ``fold``, ``seed``, ``image`` and the column.
        column: the column to average.
        resamples: the number of resamples.

    Raises:
        ValueError: if there are no rows, or an image of a fold was not tested after each of its seeds.
    """
    if values.empty:
        raise ValueError(f"no rows to average {column!r} of")
    folds = [own.pivot(index="seed", columns="image", values=column).to_numpy() for _, own in values.groupby("fold")]
    if any(np.isnan(own).any() for own in folds):
        raise ValueError("an image of a fold was not tested after each of the fold's seeds")
    random = np.random.default_rng(0)
    sums, counts = np.zeros((2, resamples))
    for _ in folds:
        drawn = random.integers(len(folds), size=resamples)
        for number, own in enumerate(folds):
            here = np.flatnonzero(drawn == number)
            seeds, images = (random.integers(count, size=(len(here), count)) for count in own.shape)
            sums[here] += own[seeds[:, :, None], images[:, None, :]].sum((1, 2))
            counts[here] += own.size
    low, high = np.quantile(sums / counts, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values[column].mean()), float(low), float(high))


def paired(errors: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Differences of the errors of two methods on the same images after the same folds, seeds and labels.

    Returns:
        Rows with ``fold``, ``seed``, ``image``, ``difference``, and the ``reference`` error.

    Raises:
        ValueError: if an image of one method has no counterpart, or several.
    """
    keys = ["fold", "seed", "image"]
    both = errors[[*keys, "error"]].merge(
        reference[[*keys, "error"]], on=keys, how="outer", suffixes=("", "_reference"), validate="one_to_one"
    )
    alone = both[both.isna().any(axis=1)]
    if len(alone):
        raise ValueError(f"{len(alone)} of {len(both)} images were not tested by both methods")
    return both.assign(difference=both.error - both.error_reference)


def of_trainings(differences: pd.DataFrame) -> pd.Series:
    """The mean difference of each training, by fold and seed; see :func:`paired`."""
    return differences.groupby(["fold", "seed"]).difference.mean()


def adjusted_p(differences: Sequence[pd.DataFrame]) -> list[float]:
    """The p-value of a paired t-test over the folds of each comparison, adjusted for multiple testing.

    Seeds of a fold are averaged, as they are tested on the same people. The adjustment is that of Benjamini and
    Hochberg: of the differences with p below 0.05, a twentieth is expected to be false. With one fold p is 1.

    Args:
        differences: of each comparison; see :func:`paired`.
    """
    folds = [of_trainings(each).groupby("fold").mean() for each in differences]
    values = [ttest_1samp(each, 0).pvalue if len(each) > 1 and each.any() else 1.0 for each in folds]
    return false_discovery_control(values).tolist() if values else []
