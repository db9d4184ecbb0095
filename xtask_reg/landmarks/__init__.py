"""Landmark detection without a framework: heatmaps and metrics in NumPy (pictures: ``xtask_reg.landmarks.plots``)."""

from xtask_reg.landmarks.heatmaps import decode_heatmaps, gaussian_heatmaps
from xtask_reg.landmarks.metrics import (
    LandmarkScores,
    Reduction,
    Space,
    ced_curve,
    image_errors,
    landmark_distances,
    landmark_errors,
    score_images,
    success_rates,
)

__all__ = [
    "LandmarkScores",
    "Reduction",
    "Space",
    "ced_curve",
    "decode_heatmaps",
    "gaussian_heatmaps",
    "image_errors",
    "landmark_distances",
    "landmark_errors",
    "score_images",
    "success_rates",
]
