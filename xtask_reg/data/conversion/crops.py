"""Square crops around landmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Square:
    """The pixels ``left .. left + side - 1`` and ``top .. top + side - 1`` of an image; some may lie outside."""

    left: int
    top: int
    side: int

    @classmethod
    def around(cls, points: np.ndarray, margin: float) -> Square:
        """The square about the centre of the bounding box of ``points`` ``(K, 2)``.

        Its side is ``1 + 2 * margin`` times the longer side of the box, rounded up to whole pixels, and one more, so
        that rounding its place to whole pixels cuts nothing off.
        """
        low, high = points.min(axis=0), points.max(axis=0)
        side = math.ceil((high - low).max() * (1 + 2 * margin)) + 1
        left, top = np.round((low + high) / 2 - (side - 1) / 2).astype(int).tolist()
        return cls(left, top, side)

    def cut(self, image: np.ndarray, size: int) -> np.ndarray:
        """The square of ``image``, ``size`` pixels wide and high; beyond its border the image's last pixel repeats.

        Shrinking averages over areas, so that nothing aliases; enlarging is bilinear.
        """
        height, width = image.shape[:2]
        rows = np.clip(np.arange(self.top, self.top + self.side), 0, height - 1)
        columns = np.clip(np.arange(self.left, self.left + self.side), 0, width - 1)
        square = image[rows[:, None], columns]
        way = cv2.INTER_AREA if size < self.side else cv2.INTER_LINEAR
        return cv2.resize(square, (size, size), interpolation=way)

    def transform(self, points: np.ndarray, size: int) -> np.ndarray:
        """Points of the image in the crop: ``x' = (x - left + 0.5) * size / side - 0.5``, likewise y.

        Pixel centres are at whole numbers in both.
        """
        return (points - (self.left, self.top) + 0.5) * (size / self.side) - 0.5
