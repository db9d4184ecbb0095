"""A picture of one face with its landmarks and part mask."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from xtask_reg.data.synthetic.anatomy import anatomy
from xtask_reg.data.synthetic.canvas import Canvas
from xtask_reg.data.synthetic.identity import Identity
from xtask_reg.data.synthetic.paint import paint
from xtask_reg.data.synthetic.parts import part_mask
from xtask_reg.data.synthetic.relief import light_map
from xtask_reg.data.synthetic.view import View

MIN_SIZE = 32
_MIN_CANVAS = 256
_MAX_RELIEF = 192


@dataclass(frozen=True)
class Face:
    """A rendered face.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        landmarks: (14, 2) float64, x and y in pixels in the order of ``LANDMARK_NAMES``. Integer coordinates are pixel
            centres: the top left pixel's centre is (0, 0), the picture's top left corner (-0.5, -0.5).
        mask: (H, W) uint8, indices into ``PART_NAMES``.
    """

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float64]
    mask: NDArray[np.uint8]


def render(identity: Identity, view: View, size: int) -> Face:
    """Draw ``identity`` as seen in ``view``, ``size`` x ``size`` pixels.

    Raises:
        ValueError: ``size`` is below 32.
    """
    if size < MIN_SIZE:
        raise ValueError(f"size must be at least {MIN_SIZE} pixels, got {size}")
    parts = anatomy(identity, view)
    fine = size * max(2, -(-_MIN_CANVAS // size))
    canvas = Canvas(np.zeros((fine, fine, 4), np.uint8), fine)
    paint(canvas, identity, view, parts)
    flat = cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    light = light_map(identity, view, parts.hair_front, min(max(size, 128), _MAX_RELIEF))
    light = cv2.resize(light, (size, size), interpolation=cv2.INTER_AREA if size < 128 else cv2.INTER_LINEAR)
    lit = flat[..., :3] * (1 + flat[..., 3:] / 255 * (light - 1))
    return Face(_photograph(lit, view), parts.landmarks * size - 0.5, part_mask(parts, size))


def _photograph(lit: np.ndarray, view: View) -> NDArray[np.uint8]:
    """Exposure, colour cast, defocus and sensor noise."""
    cast = np.array([1 + 0.02 * view.light_warmth, 1.0, 1 - 0.03 * view.light_warmth], np.float32)
    picture = lit * (view.exposure * cast)
    if view.blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), max(view.blur * len(picture), 0.05))
    rng = np.random.default_rng(view.noise_seed)
    picture = picture + view.noise * rng.standard_normal(picture.shape, np.float32)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)
