"""Anti-aliased filling of polygons with OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from xtask_reg.data.synthetic.curves import Points

_SUBPIXEL_BITS = 6


class Canvas:
    """A square picture with red, green, blue and *relief*: how strongly light and shade act on a pixel (0 to 255).

    Points are given as fractions of the picture: 0 is its left or top border, 1 its right or bottom border.

    Args:
        pixels: (H, W, 4) uint8, drawn on in place; the whole picture, or a window of it.
        size: width and height of the whole picture.
        corner: x and y of the window's top left pixel in the whole picture.
    """

    def __init__(self, pixels: NDArray[np.uint8], size: int, corner: ArrayLike = (0, 0)) -> None:
        self.pixels = pixels
        self._size = size
        self._corner = np.asarray(corner)

    def fill(self, outline: Points, colour: ArrayLike, relief: float = 255) -> None:
        """Fill a closed outline."""
        _fill(self.pixels, self._place(outline), (*np.asarray(colour, float), relief))

    @contextmanager
    def clipped(self, outline: Points) -> Iterator[Canvas]:
        """A canvas of which only what lies inside ``outline`` is kept."""
        low = np.clip(np.floor(outline.min(0) * self._size - 2), 0, self._size - 1).astype(int)
        high = np.clip(np.ceil(outline.max(0) * self._size + 2), low + 1, self._size).astype(int)
        below = self.pixels[low[1] : high[1], low[0] : high[0]]
        above = Canvas(below.copy(), self._size, low)
        yield above
        alpha = np.zeros(below.shape[:2], np.uint8)
        _fill(alpha, above._place(outline), 255)
        weight = alpha[..., None] / np.float32(255)
        below[:] = np.round(below + weight * (above.pixels.astype(np.float32) - below))

    def _place(self, points: Points) -> Points:
        return points * self._size - 0.5 - self._corner


def fill_hard(pixels: NDArray[np.uint8], outline: Points, value: int) -> None:
    """Fill an outline, in fractions of the square picture ``pixels`` (H, W), without anti-aliasing."""
    cv2.fillPoly(pixels, [_fixed_point(outline * len(pixels) - 0.5)], value, cv2.LINE_8, _SUBPIXEL_BITS)


def _fill(pixels: NDArray[np.uint8], outline: Points, value: ArrayLike) -> None:
    cv2.fillPoly(pixels, [_fixed_point(outline)], value, cv2.LINE_AA, _SUBPIXEL_BITS)


def _fixed_point(pixels: Points) -> NDArray[np.int32]:
    return np.round(pixels * 2**_SUBPIXEL_BITS).astype(np.int32)
