from __future__ import annotations

import dataclasses
import math
import statistics
import subprocess
import sys

import numpy as np
import pytest

from xtask_reg.landmarks import (
    ced_curve,
    image_errors,
    landmark_distances,
    landmark_errors,
    score_images,
    success_rates,
)

pytestmark = pytest.mark.filterwarnings("error")

READING = {"reduction": "mean_distance", "space": "heatmap"}


def random_points(images: int = 12, landmarks: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    predicted, target = rng.uniform(0, 64, size=(2, images, landmarks, 2))
    visible = rng.random((images, landmarks)) > 0.3
    visible[0] = False
    return predicted, target, visible


def image_error_by_loops(predicted: np.ndarray, target: np.ndarray, visible: np.ndarray, reduction: str) -> float:
    pairs = [(p, t) for p, t, v in zip(predicted.tolist(), target.tolist(), visible, strict=True) if v]
    if not pairs:
        return math.nan
    if reduction == "mean_distance":
        return sum(math.dist(p, t) for p, t in pairs) / len(pairs)
    return math.sqrt(sum((p[0] - t[0]) ** 2 + (p[1] - t[1]) ** 2 for p, t in pairs)) / len(pairs)


@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize("reduction", ["mean_distance", "vector_norm"])
def test_image_errors_against_loops(reduction: str, hide: bool) -> None:
    predicted, target, visible = random_points()
    mask = visible if hide else np.ones_like(visible)
    expected = [image_error_by_loops(*row, reduction) for row in zip(predicted, target, mask, strict=True)]
    errors = image_errors(predicted, target, visible if hide else None, reduction)
    assert errors.dtype == np.float64
    np.testing.assert_allclose(errors, expected, rtol=1e-12)
    assert np.isnan(errors).sum() == (1 if hide else 0)


@pytest.mark.parametrize("kind", [np.uint8, np.float16, list])
def test_points_that_are_not_float64(kind: type) -> None:
    """The differences of unsigned numbers would wrap around, and squares of short ones overflow."""
    predicted, target = np.array([[[3, 0], [0, 0]]]), np.array([[[0, 4], [240, 180]]])
    given = [each.tolist() if kind is list else each.astype(kind) for each in (predicted, target)]
    assert image_errors(*given).tolist() == [(5 + 300) / 2]


@pytest.mark.parametrize("hide", [True, False])
def test_success_rates_against_counts(hide: bool) -> None:
    predicted, target, visible = random_points()
    mask = visible if hide else np.ones_like(visible)
    off = [math.dist(p, t) for p, t, v in zip(predicted.reshape(-1, 2), target.reshape(-1, 2), mask.flat) if v]
    within = [4, 20, 100]
    found = success_rates(predicted, target, within, visible if hide else None)
    assert found.tolist() == [sum(each <= distance for each in off) / len(off) for distance in within]
    assert found[0] < found[1] < found[2] == 1


def test_success_rates_of_a_landmark_just_so_far_off() -> None:
    predicted, target = np.array([[[3.0, 4.0], [0.0, 0.0]]]), np.zeros((1, 2, 2))
    assert success_rates(predicted, target, [4.999, 5]).tolist() == [0.5, 1]
    assert np.isnan(success_rates(predicted, target, [5], np.zeros((1, 2), bool))).all()
    assert success_rates(predicted, target, []).shape == (0,)


@pytest.mark.parametrize("distance", [0, -1, math.nan, math.inf])
def test_success_rates_at_no_distance(distance: float) -> None:
    with pytest.raises(ValueError, match="within must be finite and > 0"):
        success_rates(np.zeros((1, 1, 2)), np.zeros((1, 1, 2)), [2, distance])


def test_readings_of_a_known_offset() -> None:
    # Every one of 4 landmarks is 3-4-5 away: mean distance 5, and norm sqrt(4 * 25) / 4 = 2.5.
    target = np.zeros((1, 4, 2))
    predicted = target + np.array([3.0, -4.0])
    assert image_errors(predicted, target) == 5.0
    assert image_errors(predicted, target, reduction="vector_norm") == 2.5


@pytest.mark.parametrize("unknown", [math.nan, math.inf, 1e9])
@pytest.mark.parametrize("reduction", ["mean_distance", "vector_norm"])
def test_targets_of_invisible_landmarks_do_not_matter(reduction: str, unknown: float) -> None:
    predicted, target, visible = random_points()
    expected = image_errors(predicted, target, visible, reduction)
    target[~visible] = unknown
    np.testing.assert_array_equal(image_errors(predicted, target, visible, reduction), expected)


def test_landmark_distances_against_loops() -> None:
    predicted, target, visible = random_points()
    target[~visible] = math.nan
    distances = landmark_distances(predicted, target, visible)
    for image, landmark in np.ndindex(visible.shape):
        here = image, landmark
        expected = math.dist(predicted[here], target[here]) if visible[here] else math.nan
        assert distances[here] == pytest.approx(expected, nan_ok=True)


def test_landmark_errors_against_loops() -> None:
    predicted, target, visible = random_points()
    visible[:, 2] = False
    target[~visible] = math.nan
    errors = landmark_errors(predicted, target, visible)
    for k in range(5):
        distances = [math.dist(predicted[i, k], target[i, k]) for i in range(12) if visible[i, k]]
        assert errors[k] == pytest.approx(statistics.mean(distances) if distances else math.nan, nan_ok=True)
    assert np.isnan(errors).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("threshold", [0.3, 1.2, 5.0])
def test_scores_against_their_definitions(threshold: float) -> None:
    errors = np.random.default_rng(1).gamma(6, 0.2, size=57)
    scores = score_images([*errors.tolist(), math.nan, math.nan], **READING, threshold=threshold)
    assert {type(value) for value in dataclasses.astuple(scores)[:4]} == {float}
    assert scores.me == pytest.approx(statistics.mean(errors))
    assert scores.sd == pytest.approx(statistics.stdev(errors))
    assert scores.fr == sum(e > threshold for e in errors) / 57
    assert (scores.images, scores.skipped, scores.threshold) == (57, 2, threshold)
    assert (scores.reduction, scores.space) == ("mean_distance", "heatmap")

    grid = np.linspace(0, threshold, 20_001)
    empirical_ced = (errors <= grid[:, None]).mean(axis=1)
    assert scores.auc == pytest.approx(np.trapezoid(empirical_ced, grid) / threshold, abs=1e-4)


@pytest.mark.parametrize("threshold", [0.3, 1.2, 5.0])
def test_area_under_the_curve_is_the_auc(threshold: float) -> None:
    errors = np.random.default_rng(2).gamma(6, 0.2, size=31)
    x, fraction = ced_curve(errors, threshold)
    scores = score_images(errors, **READING, threshold=threshold)
    assert np.sum(np.diff(x) * fraction[:-1]) / threshold == pytest.approx(scores.auc, rel=1e-12)
    assert fraction[-1] == pytest.approx(1 - scores.fr)


@pytest.mark.parametrize(
    ("failures", "percent"),
    [(293, "94.52"), (125, "40.32"), (33, "10.65"), (39, "12.58"), (18, "5.81"), (24, "7.74"), (20, "6.45")],
)
def test_published_failure_rates_are_counts_of_310_images(failures: int, percent: str) -> None:
    errors = np.full(310, 1.2)  # an error equal to the threshold is not a failure
    errors[:failures] = np.nextafter(1.2, 2)
    scores = score_images(errors, **READING)
    assert f"{100 * scores.fr:.2f}" == percent
    assert f"FR {percent}%" in str(scores)


@pytest.mark.parametrize(
    ("errors", "auc", "fr"),
    [([0.0], 1, 0), ([0.6], 0.5, 0), ([1.2], 0, 0), ([9.0], 0, 1), ([0.3, 0.9, 2.0], 1 / 3, 1 / 3)],
)
def test_scores_of_few_images(errors: list[float], auc: float, fr: float) -> None:
    scores = score_images(np.array(errors), **READING)
    assert scores.auc == pytest.approx(auc)
    assert scores.fr == pytest.approx(fr)
    assert math.isnan(scores.sd) == (len(errors) == 1)


def test_the_order_of_images_does_not_matter() -> None:
    predicted, target, visible = random_points()
    order = np.random.default_rng(3).permutation(len(target))
    errors = image_errors(predicted, target, visible)
    shuffled = image_errors(predicted[order], target[order], visible[order])
    np.testing.assert_array_equal(shuffled, errors[order])
    for a, b in zip(ced_curve(errors, 30), ced_curve(shuffled, 30), strict=True):
        np.testing.assert_array_equal(a, b)
    numbers = [dataclasses.astuple(score_images(e, **READING, threshold=20))[:7] for e in (errors, shuffled)]
    assert numbers[0] == pytest.approx(numbers[1])


def test_scores_name_their_reading_and_cannot_be_changed() -> None:
    scores = score_images(np.array([1.0, 2.0]), reduction="vector_norm", space="input", threshold=1.5)
    assert str(scores) == (
        "ME 1.500 ± 0.707, FR 50.00%, AUC 0.167 (vector_norm in input px, threshold 1.5, 2 images, 0 skipped)"
    )
    assert dataclasses.asdict(scores)["space"] == "input"
    with pytest.raises(dataclasses.FrozenInstanceError):
        scores.me = 0.0


def test_ced_curve_has_its_steps_at_the_errors() -> None:
    x, fraction = ced_curve(np.array([0.5, 2.0, 0.5, math.nan, 0.0]), limit=1.0)
    np.testing.assert_array_equal(x, [0, 0.5, 1])
    np.testing.assert_array_equal(fraction, [0.25, 0.75, 0.75])


@pytest.mark.parametrize("limit", [0.1, 0.7, 1.0, 50.0])
def test_ced_curve_is_the_empirical_distribution(limit: float) -> None:
    errors = np.random.default_rng(4).gamma(6, 0.2, size=40).round(1)  # with ties
    x, fraction = ced_curve(errors, limit)
    assert (x[0], x[-1]) == (0, limit)
    assert np.all(np.diff(x) > 0)
    for position in np.linspace(0, limit, 501):
        step = max(i for i in range(len(x)) if x[i] <= position)
        assert fraction[step] == sum(e <= position for e in errors) / 40


def points_with(value: float) -> np.ndarray:
    points = np.zeros((3, 4, 2))
    points[2, 1, 0] = value
    return points


GOOD = np.zeros((3, 4, 2))
SHOWN = np.ones((3, 4), dtype=bool)


@pytest.mark.parametrize("function", [image_errors, landmark_distances, landmark_errors])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GOOD[:2], GOOD), r"\(N, K, 2\), got \(2, 4, 2\) and \(3, 4, 2\)"),
        ((GOOD[0], GOOD[0]), r"got \(4, 2\) and \(4, 2\)"),
        ((np.zeros((3, 4, 3)), np.zeros((3, 4, 3))), r"got \(3, 4, 3\)"),
        ((GOOD, GOOD, SHOWN[:, :3]), r"\(3, 4\), got bool of shape \(3, 3\)"),
        ((GOOD, GOOD, SHOWN * 2), "got int64 of shape .*flags > 0"),
        ((points_with(math.nan), GOOD), "predicted point of image 2, landmark 1 is .nan, 0.0."),
        ((points_with(math.inf), GOOD), "predicted point of image 2, landmark 1"),
        ((points_with(math.nan), GOOD, ~SHOWN), "predicted point of image 2, landmark 1"),
        ((GOOD, points_with(math.nan), SHOWN), "target point of image 2, landmark 1"),
    ],
)
def test_errors_refuse_bad_input(function: object, arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reduction must be one of .*vector_norm.*got 'rms'"):
        image_errors(GOOD, GOOD, reduction="rms")


@pytest.mark.parametrize(
    ("errors", "arguments", "message"),
    [
        ([], {}, "no image to score: 0 errors"),
        ([math.nan, math.nan], {}, "no image to score: 2 errors"),
        ([0.1, -0.1], {}, r"errors\[1\] is -0.1"),
        ([math.inf], {}, r"errors\[0\] is inf"),
        ([[0.1]], {}, r"\(N,\).*shape \(1, 1\)"),
        ([0.1], {"threshold": 0.0}, "threshold must be finite and > 0, got 0.0"),
        ([0.1], {"threshold": math.nan}, "got nan"),
        ([0.1], {"space": "pixels"}, "space must be one of .*heatmap.*got 'pixels'"),
        ([0.1], {"reduction": "rms"}, "got 'rms'"),
    ],
)
def test_scores_refuse_bad_input(errors: list, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_images(np.array(errors), **{**READING, **arguments})


@pytest.mark.parametrize(("errors", "limit", "message"), [([], 1.0, "no image"), ([0.1], -1.0, "limit .*got -1.0")])
def test_ced_curve_refuses_bad_input(errors: list, limit: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ced_curve(np.array(errors), limit)


def test_the_package_needs_neither_matplotlib_nor_a_framework() -> None:
    code = (
        "import sys, xtask_reg.landmarks; print(sorted({'matplotlib', 'mmpose', 'mmengine', 'cv2'} & set(sys.modules)))"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"
