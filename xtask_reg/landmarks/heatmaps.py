"""Landmark coordinates to Gaussian heatmaps and back."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Literal, get_args

import numpy as np

DecodeMethod = Literal["argmax", "quarter_offset"]


def gaussian_heatmaps(points: np.ndarray, size: tuple[int, int], sigma: float = 1.5) -> np.ndarray:
    r"""Encode landmarks as heatmaps (Fu et al., MICCAI-MLMI 2020, section 2).

    .. math:: g_k(a, b) = \exp\left(-\frac{(a - x_k)^2 + (b - y_k)^2}{2 \sigma^2}\right)

    The centre :math:`(x_k, y_k)` is neither rounded nor clipped and the Gaussian is not truncated, so that the
    formula holds in every cell, also for centres at or beyond the border. Cell ``[b, a]`` is centred at x = a, y = b.

    Args:
        points: ``(..., K, 2)``, x and y in heatmap pixels, finite.
        size: ``(width, height)`` of the heatmaps.
        sigma: standard deviation in heatmap pixels.

    Returns:
        ``(..., K, height, width)`` float32.

    Raises:
        ValueError: a shape, size or sigma that does not fit, or a coordinate that is not finite.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim < 2 or points.shape[-1] != 2:
        raise ValueError(f"points must have shape (..., K, 2), got {points.shape}")
    if len(size) != 2 or not all(isinstance(side, Integral) and side >= 1 for side in size):
        raise ValueError(f"size must be (width, height), two integers >= 1, got {size!r}")
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be finite and > 0, got {sigma!r}")
    bad = np.argwhere(~np.isfinite(points))
    if len(bad):
        raise ValueError(
            f"points{bad[0].tolist()} is {points[tuple(bad[0])]}, expected a finite coordinate; "
            "give an invisible landmark any finite point and mask its heatmap with weight 0"
        )

    width, height = size
    columns = np.exp(-0.5 * ((np.arange(width) - points[..., :1]) / sigma) ** 2)
    rows = np.exp(-0.5 * ((np.arange(height) - points[..., 1:]) / sigma) ** 2)
    heatmaps = np.empty((*points.shape[:-1], height, width), dtype=np.float32)
    # computed in float64 and rounded once, without a float64 copy of all heatmaps
    return np.multiply(rows[..., :, None], columns[..., None, :], out=heatmaps)


def decode_heatmaps(heatmaps: np.ndarray, method: DecodeMethod = "argmax") -> tuple[np.ndarray, np.ndarray]:
    """Find the peak of each heatmap.

    ``'argmax'`` is the centre of the highest cell (the first one in row order among equals), as in the paper.
    ``'quarter_offset'`` moves it by 0.25 pixel in x and in y towards the higher of the two neighbouring cells, as
    SimpleBaseline does (Xiao et al., ECCV 2018); not along an axis on whose border the peak lies or whose neighbours
    are equal. The code of SimpleBaseline leaves a peak in the first two or the last rows or columns where it is;
    MMPose's does so in that direction only, and in both in the first row or column.

    Args:
        heatmaps: ``(..., K, H, W)``. A heatmap without a positive value has a peak like any other; the code of
            SimpleBaseline puts it at (0, 0), MMPose's at (-1, -1).
        method: ``'argmax'`` or ``'quarter_offset'``.

    Returns:
        Points ``(..., K, 2)`` float32, x and y in heatmap pixels, and peak values ``(..., K)`` in the dtype of
        ``heatmaps``.

    Raises:
        ValueError: an unknown method, a shape that does not fit, or NaN in a heatmap.
    """
    if method not in get_args(DecodeMethod):
        raise ValueError(f"method must be one of {get_args(DecodeMethod)}, got {method!r}")
    heatmaps = np.asarray(heatmaps)
    if heatmaps.ndim < 3 or 0 in heatmaps.shape[-2:]:
        raise ValueError(f"heatmaps must have shape (..., K, H, W) with H and W >= 1, got {heatmaps.shape}")

    *leading, height, width = heatmaps.shape
    flat = heatmaps.reshape(*leading, height * width)
    peak = flat.argmax(axis=-1)
    scores = np.take_along_axis(flat, peak[..., None], axis=-1)[..., 0]
    bad = np.argwhere(np.isnan(scores))  # argmax takes NaN for the maximum
    if len(bad):
        raise ValueError(f"heatmaps{bad[0].tolist()} contains NaN, expected numbers")

    y, x = np.divmod(peak, width)
    points = np.stack([x, y], axis=-1).astype(np.float32)
    if method == "quarter_offset":
        points[..., 0] += 0.25 * _uphill(flat, peak, step=1, inside=(x > 0) & (x < width - 1))
        points[..., 1] += 0.25 * _uphill(flat, peak, step=width, inside=(y > 0) & (y < height - 1))
    return points, scores


def _uphill(flat: np.ndarray, peak: np.ndarray, step: int, inside: np.ndarray) -> np.ndarray:
    """-1, 0 or 1: the side of the peak on which the cell ``step`` away is higher; 0 where not ``inside``."""
    before, after = (
        np.take_along_axis(flat, np.where(inside, peak + offset, peak)[..., None], axis=-1)[..., 0]
        for offset in (-step, step)
    )
    return (after > before).astype(np.float32) - (after < before)
