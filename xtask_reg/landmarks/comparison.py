"""Tests whether the errors of two networks on the same images differ by more than the choice of images explains.

It needs SciPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, permutation_test

LEVEL, RESAMPLES, AT_A_TIME = 0.95, 9999, 500


@dataclass(frozen=True)
class PairedDifference:
    """How much more error a network has than a reference, in the unit of the errors.

    Attributes:
        mean: of the differences; below 0 if the network has less error.
        low, high: the 95 % interval of that mean over the choice of images; NaN for one image.
        p: the probability of a mean at least as far from 0 by chance alone; NaN for one image.
        percent: the mean, in percent of the reference's mean error; NaN if that is 0.
        less: number of images on which the network has less error.
        images: number of images that were compared.
    """

    mean: float
    low: float
    high: float
    p: float
    percent: float
    less: int
    images: int


def paired_difference(errors: np.ndarray, reference: np.ndarray) -> PairedDifference:
    """Compare the errors of two networks on the same images.

    The interval is that of the bootstrap, bias-corrected and accelerated (Efron, "Better Bootstrap Confidence
    Intervals", 1987); p is two-sided, of the test that flips the signs of the differences (exact up to 13 images,
    beyond by 9999 draws, which are the same each time). Both assume that the images are independent, which several
    images of one person are not, and do not account for how much another training of the same network would differ.

    Args:
        errors: ``(N,)``, from :func:`xtask_reg.landmarks.image_errors`.
        reference: ``(N,)``, of the other network, on the same images in the same order. An image for which either is
            NaN is left out.

    Raises:
        ValueError: for shapes that do not fit, an infinite error, or no image with both errors.
    """
    errors, reference = np.asarray(errors, dtype=float), np.asarray(reference, dtype=float)
    if errors.ndim != 1 or errors.shape != reference.shape:
        raise ValueError(
            f"errors and reference must be (N,), of the same images, got {errors.shape} and {reference.shape}"
        )
    known = ~(np.isnan(errors) | np.isnan(reference))
    differences, others = (errors - reference)[known], reference[known]
    if not len(differences) or np.isinf(differences).any():
        raise ValueError(f"expected finite errors of at least one image, got {errors} and {reference}")
    mean, size = float(differences.mean()), float(others.mean())
    low, high = _interval(differences)
    return PairedDifference(
        mean=mean,
        low=low,
        high=high,
        p=_p(differences),
        percent=100 * mean / size if size else math.nan,
        less=int((differences < 0).sum()),
        images=len(differences),
    )


def _interval(differences: np.ndarray) -> tuple[float, float]:
    if len(differences) < 2:
        return math.nan, math.nan
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    how = {"n_resamples": RESAMPLES, "batch": AT_A_TIME, "confidence_level": LEVEL}
    found = bootstrap((differences,), np.mean, method="BCa", rng=np.random.default_rng(0), **how).confidence_interval
    return float(found.low), float(found.high)


def _p(differences: np.ndarray) -> float:
    if len(differences) < 2:
        return math.nan
    how = {"n_resamples": RESAMPLES, "batch": AT_A_TIME, "permutation_type": "samples"}
    return float(permutation_test((differences,), np.mean, rng=np.random.default_rng(0), **how).pvalue)
