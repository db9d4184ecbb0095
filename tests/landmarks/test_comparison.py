"""Paired differences compared with their definitions, and with theory for normal ones."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from xtask_reg.landmarks.comparison import paired_difference


def errors(count: int, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference = random.gamma(6, 0.2, size=count)
    return reference + random.normal(shift, 0.3, size=count), reference


@pytest.mark.parametrize("count", [2, 3, 8, 12])
def test_of_few_images_p_is_that_of_all_signs(count):
    own, other = errors(count, shift=0.2)
    differences = own - other
    means = [abs(np.mean(differences * signs)) for signs in itertools.product((1, -1), repeat=count)]
    assert paired_difference(own, other).p == pytest.approx(np.mean(np.array(means) >= abs(differences.mean()) - 1e-12))


@pytest.mark.parametrize("shift", [-0.08, 0.0, 0.05])
def test_of_many_normal_differences_it_is_the_t_test(shift):
    own, other = errors(400, shift)
    found, expected = paired_difference(own, other), stats.ttest_rel(own, other)
    interval = expected.confidence_interval()
    width = interval.high - interval.low
    assert found.mean == pytest.approx(np.mean(own - other))
    assert found.percent == pytest.approx(100 * (own.mean() / other.mean() - 1))
    assert abs(found.low - interval.low) < 0.05 * width
    assert abs(found.high - interval.high) < 0.05 * width
    assert found.p == pytest.approx(expected.pvalue, abs=0.02)
    assert (found.less, found.images) == (sum(own < other), 400)


def test_of_skewed_differences_the_interval_is_efrons():
    """Its ends follow from the bias of the draws, and the acceleration estimated by leaving out one image at a time."""
    differences = np.random.default_rng(0).gamma(0.5, 1, size=30) - 0.4
    mean, count = differences.mean(), len(differences)
    drawn = np.random.default_rng(1).choice(differences, (100_000, count)).mean(axis=1)
    bias = stats.norm.ppf((drawn < mean).mean())
    without = mean - (differences.sum() - differences) / (count - 1)
    acceleration = (without**3).sum() / (6 * (without**2).sum() ** 1.5)
    ends = bias + stats.norm.ppf([0.025, 0.975])
    low, high = np.quantile(drawn, stats.norm.cdf(bias + ends / (1 - acceleration * ends)))
    found = paired_difference(differences, np.zeros(count))
    assert abs(found.low - low) < 0.03 * (high - low)
    assert abs(found.high - high) < 0.03 * (high - low)


def test_the_interval_has_the_mean_as_often_as_it_says():
    held = sum(
        found.low <= 0.1 <= found.high for found in (paired_difference(*errors(40, 0.1, seed)) for seed in range(100))
    )
    assert 88 <= held <= 99  # of 100 at 95 %: outside with a chance of 1 %


def test_the_same_numbers_twice():
    assert paired_difference(*errors(50, 0.1)) == paired_difference(*errors(50, 0.1))


def test_images_that_one_of_both_lacks_are_left_out():
    own, other = errors(20)
    expected = paired_difference(own[2:], other[2:])
    own[0], other[1] = math.nan, math.nan
    assert paired_difference(own, other) == expected


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], (1.0, 1.0, 1.0, 0.25, 100.0)),
        ([1.0, 2.0], [1.0, 2.0], (0.0, 0.0, 0.0, 1.0, 0.0)),
        ([2.0], [1.0], (1.0, math.nan, math.nan, math.nan, 100.0)),
        ([1.0, 1.0], [0.0, 0.0], (1.0, 1.0, 1.0, 0.5, math.nan)),
    ],
)
def test_of_equal_differences_and_of_one_image(own, other, expected):
    found = paired_difference(np.array(own), np.array(other))
    assert (found.mean, found.low, found.high, found.p, found.percent) == pytest.approx(expected, nan_ok=True)


def test_less_is_no_tie_and_plain_numbers_come_and_go():
    found = paired_difference([1, 2, 4], [1, 3, 3])
    assert (found.less, found.images) == (1, 3)
    assert [type(value) for value in dataclasses.astuple(found)] == [float] * 5 + [int] * 2


@pytest.mark.parametrize(
    ("own", "other", "message"),
    [
        ([1.0], [1.0, 2.0], "of the same images"),
        ([[1.0]], [[1.0]], r"must be \(N,\)"),
        ([math.nan], [1.0], "at least one image"),
        ([math.inf, 1.0], [1.0, 1.0], "finite"),
        ([], [], "at least one image"),
    ],
)
def test_bad_errors(own, other, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(np.array(own), np.array(other))
