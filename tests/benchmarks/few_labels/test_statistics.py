"""The bootstrap compared with known results, and paired differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from grid.statistics import adjusted_p, bootstrap, paired
from scipy.stats import t


def rows(values):
    """One fold for each row of values, one image for each column."""
    table = pd.DataFrame(np.asarray(values)).rename_axis("fold").reset_index()
    return table.melt("fold", var_name="image", value_name="error").assign(seed=0)


def test_images_of_one_training_are_the_plain_bootstrap():
    """The interval of a mean of n values is about 1.96 standard errors to either side."""
    values = np.random.default_rng(1).normal(size=(1, 400))
    found = bootstrap(rows(values), "error")
    spread = 1.96 * values.std() / np.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - spread, abs=0.1 * spread)
    assert found.high == pytest.approx(values.mean() + spread, abs=0.1 * spread)


def test_what_the_images_of_a_training_share_counts_once():
    """Ten thousand images of twenty trainings that differ only in their means count as twenty numbers."""
    means = np.random.default_rng(1).normal(size=20)
    found = bootstrap(rows(np.repeat(means[:, None], 500, axis=1)), "error", resamples=4000)
    spread = 1.96 * means.std() / np.sqrt(20)
    assert found.high - found.low == pytest.approx(2 * spread, rel=0.1)


def test_both_levels_add_up():
    random = np.random.default_rng(1)
    values = random.normal(size=(40, 1)) + 3 * random.normal(size=(40, 9))
    found = bootstrap(rows(values), "error")
    variance = values.mean(1).var() / 40 + values.var(1).mean() / (40 * 9)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.1)


def test_people_who_are_tested_after_several_seeds_count_once():
    """If only people differ, four hundred of them after a hundred seeds count as four hundred numbers."""
    people = np.random.default_rng(1).normal(size=(1, 400))
    seeds = pd.concat([rows(people).assign(seed=seed) for seed in range(100)])
    found = bootstrap(seeds, "error", resamples=1000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * people.std() / np.sqrt(400), rel=0.1)


def test_seeds_of_one_fold_vary():
    """If only seeds differ, a hundred of them count as a hundred numbers, however many people there are."""
    means = np.random.default_rng(1).normal(size=100)
    seeds = pd.concat([rows([[mean] * 300]).assign(seed=seed) for seed, mean in enumerate(means)])
    found = bootstrap(seeds, "error", resamples=1000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * means.std() / 10, rel=0.1)


def test_an_image_that_a_seed_lacks():
    seeds = pd.concat([rows([[1.0, 2.0]]), rows([[1.0]]).assign(seed=1)])
    with pytest.raises(ValueError, match="not tested after each of the fold's seeds"):
        bootstrap(seeds, "error")


def differences(of_folds):
    return rows(np.repeat(np.array(of_folds)[:, None], 4, axis=1)).rename(columns={"error": "difference"})


def test_adjusted_p_by_hand():
    """Student's t of the folds' means; Benjamini and Hochberg: times the number of tests over the rank."""
    trials = [0.1, 0.2, 0.3, 0.4, 0.5], [1.0, -1.0, 0.5, -0.4, 0.1], [0.0, 0.0, 0.0, 0.0, 0.0]
    statistics = [np.mean(one) / (np.std(one, ddof=1) / np.sqrt(5)) for one in trials[:2]]
    first, second = (2 * t(4).sf(abs(statistic)) for statistic in statistics)
    assert first < 0.05 < second
    assert adjusted_p([*map(differences, trials)]) == pytest.approx([3 * first, min(1, 3 / 2 * second), 1])


def test_seeds_of_a_fold_are_one_number_to_the_t_test():
    twice = pd.concat([differences([0.0, 0.1, 0.2]), differences([0.2, 0.3, 0.4]).assign(seed=1)])
    assert adjusted_p([twice]) == pytest.approx(adjusted_p([differences([0.1, 0.2, 0.3])]))


@pytest.mark.parametrize("trainings", [[], [differences([1.0])]])
def test_too_few_to_test(trainings):
    assert adjusted_p(trainings) == [1.0] * len(trainings)


def test_folds_of_different_size_weigh_by_their_images():
    table = pd.concat([rows([[0.0] * 30]), rows([[1.0] * 10]).assign(fold=1)])
    found = bootstrap(table, "error", resamples=2000)
    assert (found.mean, found.low, found.high) == (0.25, 0, 1)


def test_no_rows():
    with pytest.raises(ValueError, match="no rows to average 'error' of"):
        bootstrap(rows([[1.0]]).iloc[:0], "error")


def test_pairs_go_by_image_whatever_the_order():
    one, other = rows([[1.0, 2.0], [3.0, 4.0]]), rows([[0.5, 0.5], [1.0, 1.0]])
    both = paired(one, other.sample(frac=1, random_state=0)).sort_values(["fold", "image"])
    assert both.difference.tolist() == [0.5, 1.5, 2.0, 3.0]


def test_an_image_without_partner():
    with pytest.raises(ValueError, match="1 of 4 images were not tested by both"):
        paired(rows([[1.0, 2.0], [3.0, 4.0]]), rows([[1.0, 2.0], [3.0, 4.0]]).iloc[:3])
