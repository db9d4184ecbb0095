"""Faces in image files, and the landmarks that a network found in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Face:
    """The place of a face.

    Attributes:
        image: the file.
        box: left, top, width and height in pixels; None for the whole image.
    """

    image: Path
    box: Box | None = None


@dataclass(frozen=True)
class LandmarkedFace:
    """A face with the landmarks that a network found. Pixel centres have integer coordinates, as in MMPose.

    Attributes:
        image: the file.
        size: width and height of the whole image, upright, in pixels.
        box: left, top, width and height of the face in pixels.
        points: ``(K, 2)``, x and y in pixels of the image.
        confidence: ``(K,)``, the height of each heatmap's peak; 1 is that of the heatmaps in training.
        heatmaps: ``(K, h, w)``; None if the network makes none.
        to_image: ``(2, 3)``, the affine map from (column, row) in the heatmaps to (x, y) in the image; 0 without
            heatmaps.
        is_dark: whether the image is nearly black, as 16-bit files with 12-bit values are.
    """

    image: Path
    size: tuple[int, int]
    box: Box
    points: np.ndarray
    confidence: np.ndarray
    heatmaps: np.ndarray | None
    to_image: np.ndarray
    is_dark: bool = False
