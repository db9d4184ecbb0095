"""Procedural faces: pictures of invented people with landmarks, identities and part masks, made from a seed.

>>> from xtask_reg.data import synthetic
>>> face = synthetic.render(synthetic.Identity.from_seed(7), synthetic.View.from_seed(1), size=128)
>>> face.image.shape, face.landmarks.shape
((128, 128, 3), (14, 2))
"""

from __future__ import annotations

from xtask_reg.data.synthetic.identity import Identity
from xtask_reg.data.synthetic.landmarks import FLIP_INDEX, LANDMARK_NAMES, SKELETON
from xtask_reg.data.synthetic.parts import PART_NAMES
from xtask_reg.data.synthetic.pictures import view_seed
from xtask_reg.data.synthetic.render import Face, render
from xtask_reg.data.synthetic.view import View
from xtask_reg.data.synthetic.write_identities import write_identity_set
from xtask_reg.data.synthetic.write_landmarks import write_landmark_set
from xtask_reg.data.synthetic.write_masks import write_segmentation_set

__all__ = [
    "FLIP_INDEX",
    "LANDMARK_NAMES",
    "PART_NAMES",
    "SKELETON",
    "Face",
    "Identity",
    "View",
    "render",
    "view_seed",
    "write_identity_set",
    "write_landmark_set",
    "write_segmentation_set",
]
