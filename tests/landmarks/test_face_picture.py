"""Pictures of landmarks and heatmaps: what is drawn lies where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xtask_reg.landmarks.face_picture import SIDE, face_picture
from xtask_reg.landmarks.faces import LandmarkedFace

BOX = (20.0, 10.0, 64.0, 32.0)
CELL = (5, 3)


def face(heatmaps: np.ndarray | None, confidence: float = 1.0) -> LandmarkedFace:
    """One landmark, at the cell (5, 3) of 16 x 8 in the box."""
    to_image = np.array([[4.0, 0, 20], [0, 4.0, 10]])
    point = to_image @ (*CELL, 1)
    return LandmarkedFace(Path("a.png"), (100, 50), BOX, point[None], np.array([confidence]), heatmaps, to_image)


def centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)[::-1]


def test_point_and_heatmap():
    heatmaps = np.zeros((1, 8, 16))
    heatmaps[0, CELL[1], CELL[0]] = 1
    picture = face_picture(face(heatmaps), np.full((50, 100, 3), 90, np.uint8))
    assert picture.shape == (SIDE // 2, 2 * SIDE, 3)
    place = np.array(CELL) * 4 * SIDE / 64
    left, right = picture[:, :SIDE].astype(int), picture[:, SIDE:].astype(int)
    np.testing.assert_allclose(centre(left[..., 0] > 150), place, atol=1)
    np.testing.assert_allclose(centre(np.ptp(right, axis=2) > 100), place, atol=4)
    assert (right[:, -100:] == 90).all()  # where the heatmap is 0 the photograph shows


def test_without_heatmaps_there_is_one_half():
    assert face_picture(face(None), np.zeros((50, 100, 3), np.uint8)).shape == (SIDE // 2, SIDE, 3)


@pytest.mark.parametrize(("confidence", "colour"), [(1.3, (240, 228, 66)), (0.0, (213, 94, 0)), (-1.0, (213, 94, 0))])
def test_colour_of_confidence(confidence, colour):
    picture = face_picture(face(None, confidence), np.zeros((50, 100, 3), np.uint8))
    column, row = (np.array(CELL) * 4 * SIDE / 64).astype(int)
    np.testing.assert_array_equal(picture[row, column], colour)


def test_a_box_beyond_the_border_repeats_the_last_pixel():
    pixels = np.full((50, 100, 3), 200, np.uint8)
    beyond = LandmarkedFace(
        Path("a.png"), (100, 50), (-30, -30, 90, 90), np.zeros((0, 2)), np.zeros(0), None, np.eye(3)
    )
    assert (face_picture(beyond, pixels) == 200).all()
