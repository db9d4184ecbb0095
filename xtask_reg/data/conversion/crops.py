"""Square crops around landmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Square:
    """The pixels ``left .. left + side - 1`` and ``top .. top + side - 1`` of an image; some may lie outside.

    ``is_whole`` means that it is the smallest square around the whole image.
    """

    left: int
    top: int
    side: int
    is_whole: bool = False

    @classmethod
    def around(cls, points: np.ndarray, margin: float) -> Square:
        """The square around the centre of the bounding box of ``points`` ``(K, 2)``.

        Its side is ``1 + 2 * margin`` times the longer side of the box, rounded up to whole pixels, plus one, so that
        rounding its position to whole pixels cuts nothing off.
        """
        low, high = points.min(axis=0), points.max(axis=0)
        side = math.ceil((high - low).max() * (1 + 2 * margin)) + 1
        left, top = np.round((low + high) / 2 - (side - 1) / 2).astype(int).tolist()
        return cls(left, top, side)

    @classmethod
    def of_whole(cls, height: int, width: int) -> Square:
        """The smallest square with an image of this size at its centre."""
        side = max(height, width)
        return cls((width - side) // 2, (height - side) // 2, side, is_whole=True)

    def cut(self, image: np.ndarray, size: int) -> np.ndarray:
        """The square cut out of ``image``, ``size`` pixels wide and high.

        Beyond the border of the image its last pixel repeats; around a whole image it is black, as in MMPose's own
        crops. Shrinking averages over areas, to avoid aliasing; enlarging is bilinear.
        """
        height, width = image.shape[:2]
        rows, columns = (np.arange(start, start + self.side) for start in (self.top, self.left))
        square = image[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
        if self.is_whole:
            square[(rows < 0) | (rows >= height)] = 0
            square[:, (columns < 0) | (columns >= width)] = 0
        way = cv2.INTER_AREA if size < self.side else cv2.INTER_LINEAR
        return cv2.resize(square, (size, size), interpolation=way)

    def transform(self, points: np.ndarray, size: int) -> np.ndarray:
        """Map points of the image to the crop: ``x' = (x - left + 0.5) * size / side - 0.5``, and y likewise.

        Pixel centres have integer coordinates in both.
        """
        return (points - (self.left, self.top) + 0.5) * (size / self.side) - 0.5
