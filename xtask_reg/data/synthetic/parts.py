"""Segmentation of a face into parts."""

from __future__ import annotations

import numpy as np

from xtask_reg.data.synthetic.anatomy import Anatomy
from xtask_reg.data.synthetic.canvas import fill_hard

PART_NAMES = (
    "background",
    "clothes",
    "hair",
    "neck",
    "ear",
    "skin",
    "nose",
    "left_brow",
    "right_brow",
    "left_eye",
    "right_eye",
    "upper_lip",
    "mouth",
    "lower_lip",
)
"""Part ``i`` has label ``i`` in a mask. Left and right are sides of the image; "mouth" is its open interior."""

_SUPERSAMPLING = 3  # odd, so that one sub-pixel lies exactly on the pixel centre


def part_mask(parts: Anatomy, size: int) -> np.ndarray:
    """The part at each pixel centre: (size, size) uint8 indices into ``PART_NAMES``."""
    layers = [
        ("clothes", [parts.clothes]),
        ("hair", parts.hair_back),
        ("neck", [parts.neck]),
        ("ear", parts.ears),
        ("skin", [parts.face]),
        ("nose", [parts.nose]),
        ("mouth", [parts.mouth_interior]),
        ("upper_lip", [parts.upper_lip]),
        ("lower_lip", [parts.lower_lip]),
        ("left_eye", [parts.eyes[0].opening]),
        ("right_eye", [parts.eyes[1].opening]),
        ("left_brow", [parts.eyes[0].brow]),
        ("right_brow", [parts.eyes[1].brow]),
        ("hair", [parts.hair_front]),
    ]
    mask = np.zeros((size * _SUPERSAMPLING,) * 2, np.uint8)
    for name, outlines in layers:
        for outline in outlines:
            fill_hard(mask, outline, PART_NAMES.index(name))
    return mask[_SUPERSAMPLING // 2 :: _SUPERSAMPLING, _SUPERSAMPLING // 2 :: _SUPERSAMPLING].copy()
