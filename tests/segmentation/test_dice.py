from __future__ import annotations

import numpy as np
import pytest

from xtask_reg.segmentation import dice_over_set, dice_per_image

pytestmark = pytest.mark.filterwarnings("error")


def naive(predicted, target, label: int, ignore: int | None = None) -> float:
    """2 |P and T| / (|P| + |T|), pixel by pixel over all given images; NaN without any such pixel."""
    overlap = both = 0
    for mask, truth in zip(predicted, target):
        for y in range(len(truth)):
            for x in range(len(truth[y])):
                if truth[y][x] == ignore:
                    continue
                is_predicted, is_true = mask[y][x] == label, truth[y][x] == label
                overlap += is_predicted and is_true
                both += int(is_predicted) + int(is_true)
    return 2 * overlap / both if both else float("nan")


def masks(seed: int, images: int, classes: int, dtype: type, sizes: tuple[tuple[int, int], ...]) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, classes, sizes[image % len(sizes)]).astype(dtype) for image in range(images)]


@pytest.mark.parametrize("sizes", [((5, 7),), ((1, 1),), ((6, 3), (4, 4), (2, 9))])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64])
@pytest.mark.parametrize(("images", "labels", "classes"), [(1, 2, 2), (4, 3, 5), (6, 9, 9), (2, 1, 1)])
@pytest.mark.parametrize("ignore", [None, 0, 255])
def test_agrees_with_a_loop_over_pixels(images, labels, classes, dtype, sizes, ignore) -> None:
    predicted, target = (masks(seed, images, labels, dtype, sizes) for seed in (1, 2))
    if ignore == 255:
        for truth in target:
            truth[0, 0] = 255 % 256
    single = [[naive([p], [t], label, ignore) for label in range(classes)] for p, t in zip(predicted, target)]
    np.testing.assert_allclose(dice_per_image(predicted, target, classes, ignore), single)
    together = [naive(predicted, target, label, ignore) for label in range(classes)]
    np.testing.assert_allclose(dice_over_set(predicted, target, classes, ignore), together)


def test_rules_of_absence_by_hand() -> None:
    """Class 0 overlaps by half, class 1 is only in the truth, 2 only in the prediction, 3 in neither."""
    predicted, target = np.array([[[0, 0], [2, 2]]]), np.array([[[0, 1], [0, 1]]])
    np.testing.assert_array_equal(dice_per_image(predicted, target, 4), [[0.5, 0, 0, np.nan]])


def test_a_set_weighs_pixels_and_images_weigh_the_same() -> None:
    """One image of 1 pixel, all wrong; one of 9 pixels, all right."""
    predicted, target = [np.zeros((1, 1), int), np.ones((3, 3), int)], [np.ones((1, 1), int), np.ones((3, 3), int)]
    np.testing.assert_allclose(np.nanmean(dice_per_image(predicted, target, 2), axis=0)[1], 0.5)
    np.testing.assert_allclose(dice_over_set(predicted, target, 2)[1], 2 * 9 / (9 + 10))


def test_arrays_and_iterators_give_the_same() -> None:
    predicted, target = (np.stack(masks(seed, 3, 4, np.uint8, ((4, 4),))) for seed in (1, 2))
    expected = dice_per_image(list(predicted), list(target), 4)
    np.testing.assert_array_equal(dice_per_image(predicted, target, 4), expected)
    np.testing.assert_array_equal(dice_per_image(iter(predicted), iter(target), 4), expected)
    np.testing.assert_array_equal(dice_per_image(predicted.tolist(), target.tolist(), 4), expected)


GOOD = np.zeros((1, 2, 2), int)


@pytest.mark.parametrize(
    ("predicted", "target", "classes", "message"),
    [
        (GOOD[:0], GOOD[:0], 2, "0 predicted and 0 true"),
        (np.zeros((2, 2, 2), int), GOOD, 2, "2 predicted and 1 true"),
        (GOOD, GOOD, 0, "0 classes"),
        (np.zeros((1, 2, 3), int), GOOD, 2, r"\(2, 3\).*\(2, 2\)"),
        (np.zeros((1, 2, 2, 2), int), np.zeros((1, 2, 2, 2), int), 2, "argmax"),
        (GOOD.astype(float), GOOD, 2, "predicted mask of float64"),
        (GOOD, GOOD.astype(float), 2, "target mask of float64"),
        (GOOD + 2 * np.eye(2, dtype=int), GOOD, 2, "predicted mask with labels from 0 to 2; expected 0 to 1"),
        (GOOD, GOOD - np.eye(2, dtype=int), 2, "target mask with labels from -1 to 0"),
        (GOOD, GOOD + 255, 2, "ignore"),
    ],
)
def test_bad_masks_are_refused(predicted, target, classes, message) -> None:
    with pytest.raises(ValueError, match=message):
        dice_per_image(predicted, target, classes)
