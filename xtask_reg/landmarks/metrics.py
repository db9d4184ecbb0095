"""Landmark errors of images, and the scores of a test set: ME, SD, FR and AUC.

The published errors allow two readings (mean point distance in heatmap pixels, or the norm of the whole error vector
divided by K in input pixels), so scores name their reading (``reduction``) and what they count in (``space``): pixels
of the heatmap, of the network's input or of the original image, or millimetres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Reduction = Literal["mean_distance", "vector_norm"]
Space = Literal["heatmap", "input", "image", "mm"]


@dataclass(frozen=True)
class LandmarkScores:
    """Scores of a test set; ``me``, ``sd`` and ``threshold`` count in ``space``.

    Attributes:
        me: mean of the image errors.
        sd: their standard deviation across images (n - 1 in the denominator; NaN for one image).
        fr: failure rate in [0, 1], the fraction of images whose error is strictly greater than ``threshold``.
        auc: area under the cumulative error distribution from 0 to ``threshold``, divided by ``threshold``.
        images: number of images scored.
        skipped: number of images left out because none of their landmarks is visible.
        threshold: error above which an image is a failure.
        reduction: how the errors of an image's landmarks became one number, see :func:`image_errors`.
        space: what errors count in.
    """

    me: float
    sd: float
    fr: float
    auc: float
    images: int
    skipped: int
    threshold: float
    reduction: Reduction
    space: Space

    def __str__(self) -> str:
        return (
            f"ME {self.me:.3f} ± {self.sd:.3f}, FR {self.fr:.2%}, AUC {self.auc:.3f} "
            f"({self.reduction} in {unit(self.space)}, threshold {self.threshold:g}, "
            f"{self.images} images, {self.skipped} skipped)"
        )


def unit(space: Space) -> str:
    """``'heatmap px'`` and so on, or ``'mm'``."""
    return space if space == "mm" else f"{space} px"


def image_errors(
    predicted: np.ndarray,
    target: np.ndarray,
    visible: np.ndarray | None = None,
    reduction: Reduction = "mean_distance",
) -> np.ndarray:
    r"""Error of each image, over its V visible landmarks.

    ``'mean_distance'`` is :math:`\frac{1}{V} \sum_k \lVert p_k - \hat p_k \rVert_2`, the mean distance of points.
    ``'vector_norm'`` is :math:`\frac{1}{V} \lVert p - \hat p \rVert_2` with the norm over the whole vector of 2V
    coordinates, the literal reading of the formula in Fu et al. (2020).

    Args:
        predicted: ``(N, K, 2)`` points, x and y in pixels, all finite.
        target: ``(N, K, 2)`` points in the same pixels; those of invisible landmarks are not looked at.
        visible: ``(N, K)`` bool; all landmarks if None.
        reduction: ``'mean_distance'`` or ``'vector_norm'``.

    Returns:
        ``(N,)`` float64 in the pixels of the points, NaN for an image without a visible landmark.

    Raises:
        ValueError: shapes that do not fit, an unknown reduction, or a coordinate that is not finite.
    """
    _require_member("reduction", reduction, Reduction)
    distances, visible = _distances(predicted, target, visible)
    if reduction == "mean_distance":
        return _ratio(distances.sum(axis=1), visible.sum(axis=1))
    return _ratio(np.sqrt((distances**2).sum(axis=1)), visible.sum(axis=1))


def landmark_distances(predicted: np.ndarray, target: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
    """Distance of each predicted landmark to the true one, ``(N, K)`` float64; NaN where it is not visible.

    Takes and raises what :func:`image_errors` does.
    """
    distances, visible = _distances(predicted, target, visible)
    return np.where(visible, distances, np.nan)


def landmark_errors(predicted: np.ndarray, target: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
    """Mean distance of each landmark over the images that show it, ``(K,)`` float64; NaN where none does.

    Takes and raises what :func:`image_errors` does.
    """
    distances, visible = _distances(predicted, target, visible)
    return _ratio(distances.sum(axis=0), visible.sum(axis=0))


def success_rates(
    predicted: np.ndarray, target: np.ndarray, within: Sequence[float], visible: np.ndarray | None = None
) -> np.ndarray:
    """Successful detection rate: the fraction of all visible landmarks that are no further off than a distance.

    Cephalometric work gives it at 2, 2.5, 3 and 4 mm (Wang et al., "A benchmark for comparison of dental radiography
    analysis algorithms", Medical Image Analysis 2016). Takes what :func:`image_errors` does, and

    Args:
        within: the distances, in the unit of the points.

    Returns:
        ``(len(within),)`` float64 in [0, 1]; NaN if no landmark is visible.

    Raises:
        ValueError: as :func:`image_errors`, and for a distance that is not positive.
    """
    for distance in within:
        _require_positive("within", distance)
    distances, visible = _distances(predicted, target, visible)
    seen = distances[visible]
    return np.array([(seen <= distance).mean() if len(seen) else np.nan for distance in within])


def score_images(errors: np.ndarray, *, reduction: Reduction, space: Space, threshold: float = 1.2) -> LandmarkScores:
    r"""Score a test set from the errors of its images.

    The area under the step-shaped cumulative error distribution is exact:
    :math:`\mathrm{AUC} = \frac{1}{N} \sum_i \max(0, 1 - e_i / t)` with threshold t. Benchmarks of face alignment
    mostly integrate it by Simpson's rule over a thousand steps, which comes close to this.

    Args:
        errors: ``(N,)`` of :func:`image_errors`; NaN marks an image to skip.
        reduction: the one that ``errors`` were computed with; kept in the scores.
        space: what ``errors`` count in; kept in the scores.
        threshold: error above which an image is a failure, in the same unit.

    Raises:
        ValueError: no image to score, an error that is negative or infinite, a threshold that is not positive, or an
            unknown reduction or space.
    """
    _require_member("reduction", reduction, Reduction)
    _require_member("space", space, Space)
    _require_positive("threshold", threshold)
    scored = _scored_errors(errors)
    return LandmarkScores(
        me=float(scored.mean()),
        sd=float(scored.std(ddof=1)) if len(scored) > 1 else math.nan,
        fr=float((scored > threshold).mean()),
        auc=float(np.maximum(0, 1 - scored / threshold).mean()),
        images=len(scored),
        skipped=len(errors) - len(scored),
        threshold=float(threshold),
        reduction=reduction,
        space=space,
    )


def ced_curve(errors: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative error distribution from 0 to ``limit``, as the corners of its exact step function.

    From ``x[i]`` up to ``x[i + 1]`` the fraction of images with an error of at most x is ``fraction[i]`` (matplotlib:
    ``drawstyle='steps-post'``). NaN errors are skipped.

    Args:
        errors: ``(N,)`` of :func:`image_errors`.
        limit: where the curve ends, in the unit of the errors.

    Returns:
        ``x``, increasing from 0 to ``limit``, and ``fraction`` in [0, 1], both float64 of the same length.

    Raises:
        ValueError: no image, an error that is negative or infinite, or a limit that is not positive.
    """
    _require_positive("limit", limit)
    ordered = np.sort(_scored_errors(errors))
    x = np.unique([0.0, *ordered[ordered <= limit], limit])
    return x, np.searchsorted(ordered, x, side="right") / len(ordered)


def _distances(predicted: np.ndarray, target: np.ndarray, visible: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Checked point distances ``(N, K)``, 0 where invisible, and visibility ``(N, K)``."""
    predicted, target = np.asarray(predicted, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if predicted.ndim != 3 or predicted.shape[2] != 2 or predicted.shape != target.shape:
        raise ValueError(f"predicted and target must both be (N, K, 2), got {predicted.shape} and {target.shape}")
    visible = np.ones(target.shape[:2], dtype=bool) if visible is None else np.asarray(visible)
    if visible.shape != target.shape[:2] or visible.dtype != bool:
        raise ValueError(
            f"visible must be bool of shape {target.shape[:2]}, got {visible.dtype} of shape {visible.shape}; "
            "turn visibility flags or weights into bool with `flags > 0`"
        )
    _require_finite("predicted", predicted, np.ones_like(visible))
    _require_finite("target", target, visible)
    difference = np.where(visible[..., None], predicted - target, 0.0)
    return np.hypot(difference[..., 0], difference[..., 1]), visible


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _scored_errors(errors: np.ndarray) -> np.ndarray:
    errors = np.asarray(errors, dtype=np.float64)
    if errors.ndim != 1:
        raise ValueError(f"errors must be (N,), one number per image, got shape {errors.shape}")
    bad = np.flatnonzero((errors < 0) | np.isinf(errors))
    if len(bad):
        raise ValueError(f"errors[{bad[0]}] is {errors[bad[0]]}, expected a finite distance >= 0 or NaN (skip)")
    scored = errors[~np.isnan(errors)]
    if not len(scored):
        raise ValueError(f"no image to score: {len(errors)} errors given, all of them NaN (no visible landmark)")
    return scored


def _require_finite(name: str, points: np.ndarray, where: np.ndarray) -> None:
    bad = np.argwhere(where & ~np.isfinite(points).all(axis=2))
    if len(bad):
        image, landmark = bad[0]
        raise ValueError(
            f"{name} point of image {image}, landmark {landmark} is {points[image, landmark].tolist()}, "
            "expected finite x and y (only the target of an invisible landmark may be unknown)"
        )


def _require_member(name: str, value: str, options: object) -> None:
    if value not in get_args(options):
        raise ValueError(f"{name} must be one of {get_args(options)}, got {value!r}")


def _require_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and > 0, got {value!r}")
