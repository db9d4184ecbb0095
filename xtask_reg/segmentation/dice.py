"""The Dice coefficient: the overlap of label masks, per class (Dice 1945)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def dice_per_image(
    predicted: Iterable[np.ndarray], target: Iterable[np.ndarray], classes: int, ignore: int | None = None
) -> np.ndarray:
    r"""Dice coefficient of each class in each image.

    .. math:: D_c = \frac{2\,|P_c \cap T_c|}{|P_c| + |T_c|}

    with the pixels :math:`P_c` predicted and :math:`T_c` labelled as c. A class that an image has in neither mask has
    no coefficient there: it is NaN, and ``numpy.nanmean`` leaves it out. In one mask only it is 0.

    Args:
        predicted: label masks ``(H, W)`` of whole numbers below ``classes``; an array ``(N, H, W)`` will do.
        target: the true ones, each of its prediction's size. Images may differ in size.
        classes: number of classes, background included.
        ignore: label in ``target`` of pixels that are not looked at (255, usually).

    Returns:
        ``(N, classes)`` float64.

    Raises:
        ValueError: for no images, unequal numbers of masks, shapes that do not fit, or labels that are none.

    Example:
        >>> dice_per_image(np.array([[[0, 1, 1]]]), np.array([[[0, 0, 1]]]), classes=3).round(3)
        array([[0.667, 0.667,   nan]])
    """
    return _dice(_areas(predicted, target, classes, ignore))


def dice_over_set(
    predicted: Iterable[np.ndarray], target: Iterable[np.ndarray], classes: int, ignore: int | None = None
) -> np.ndarray:
    """Dice coefficient of each class, ``(classes,)``, with the pixels of all images together.

    Large objects count for more than in the mean of :func:`dice_per_image`, and a class is NaN only if no mask has it.
    Takes and raises what that function does.
    """
    return _dice(_areas(predicted, target, classes, ignore).sum(axis=0, keepdims=True))[0]


def _dice(areas: np.ndarray) -> np.ndarray:
    overlap, both = areas[:, 0], areas[:, 1]
    return np.divide(2 * overlap, both, out=np.full(both.shape, np.nan), where=both > 0)


def _areas(
    predicted: Iterable[np.ndarray], target: Iterable[np.ndarray], classes: int, ignore: int | None
) -> np.ndarray:
    """For each class the pixels in both masks, and the sum of those in each: ``(N, 2, classes)``."""
    predicted, target = list(predicted), list(target)
    if classes < 1 or not target or len(predicted) != len(target):
        raise ValueError(
            f"{len(predicted)} predicted and {len(target)} true masks of {classes} classes; expected as many of both, "
            "at least one, and at least one class"
        )
    return np.stack([_areas_of_one(*pair, classes, ignore) for pair in zip(predicted, target)])


def _areas_of_one(predicted: np.ndarray, target: np.ndarray, classes: int, ignore: int | None) -> np.ndarray:
    predicted, target = np.asarray(predicted), np.asarray(target)
    if predicted.ndim != 2 or predicted.shape != target.shape:
        raise ValueError(
            f"a predicted mask of shape {predicted.shape} and its target of shape {target.shape}; expected (height, "
            "width) of the same size (argmax over the classes first)"
        )
    if ignore is not None:
        known = target != ignore
        predicted, target = predicted[known], target[known]
    one, other = (_count(name, mask, classes) for name, mask in (("predicted", predicted), ("target", target)))
    return np.stack([_count("target", target[predicted == target], classes), one + other])


def _count(name: str, mask: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of each class."""
    if mask.dtype.kind not in "bui":
        raise ValueError(f"{name} mask of {mask.dtype}; expected whole numbers, the labels")
    if mask.size and not 0 <= mask.min() <= mask.max() < classes:
        raise ValueError(
            f"{name} mask with labels from {mask.min()} to {mask.max()}; expected 0 to {classes - 1} (give the label "
            "of pixels that should not count as ignore=...)"
        )
    return np.bincount(mask.ravel().astype(np.int64), minlength=classes)
