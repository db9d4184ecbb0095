"""The 14 landmarks: names, mirror partners, skeleton.

"Left" and "right" are sides of the *image*, not of the person.
"""

from __future__ import annotations

LANDMARK_NAMES = (
    "left_eye_outer",
    "left_eye_inner",
    "right_eye_inner",
    "right_eye_outer",
    "nose_bottom",
    "philtrum_top_left",
    "philtrum_top_right",
    "philtrum_bottom_left",
    "philtrum_bottom_right",
    "mouth_left",
    "mouth_right",
    "lip_peak_left",
    "lip_dip",
    "lip_peak_right",
)
"""In order: corners of the palpebral fissures, subnasale, ends of the philtral ridges, mouth corners, cupid's bow."""

FLIP_INDEX = (3, 2, 1, 0, 4, 6, 5, 8, 7, 10, 9, 13, 12, 11)
"""Landmark ``i`` of a mirrored picture is landmark ``FLIP_INDEX[i]`` of the original; it is its own inverse."""

SKELETON = ((0, 1), (2, 3), (5, 7), (6, 8), (9, 11), (11, 12), (12, 13), (13, 10))
"""Pairs of landmark indices to join in drawings."""
