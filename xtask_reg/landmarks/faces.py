"""Faces in image files, and the landmarks that a network found in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Face:
    """Where a face is.

    Attributes:
        image: the file.
        box: left, top, width and height in pixels; None for the whole image.
    """

    image: Path
    box: Box | None = None


@dataclass(frozen=True)
class LandmarkedFace:
    """What a network found in a face. Pixel centres are at whole numbers, as in MMPose.

    Attributes:
        image: the file.
        size: width and height of the whole image, upright, in pixels.
        box: left, top, width and height of the face in pixels.
        points: ``(K, 2)``, x and y in pixels of the image.
        confidence: ``(K,)``, the height of each heatmap's peak; 1 is the peak of the heatmaps trained with.
        heatmaps: ``(K, h, w)``; None if the network makes none.
        to_image: ``(2, 3)``: what a column, a row and 1 in the heatmaps are multiplied with to be x, y in the image; 0
            without heatmaps.
        is_dark: whether the image is nearly black, as 12 bits in a file of 16 are.
    """

    image: Path
    size: tuple[int, int]
    box: Box
    points: np.ndarray
    confidence: np.ndarray
    heatmaps: np.ndarray | None
    to_image: np.ndarray
    is_dark: bool = False
