"""A picture of a face with its landmarks and the heatmaps from which they were decoded."""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib import colormaps

from xtask_reg.landmarks.faces import LandmarkedFace

SIDE = 512
"""Minimum length in pixels of the longer side."""

SURE, UNSURE = (240, 228, 66), (213, 94, 0)


def face_picture(face: LandmarkedFace, pixels: np.ndarray) -> np.ndarray:
    """The box of a face with its landmarks, and beside it the heatmaps over the grey image.

    Landmarks are yellow; the lower their confidence, from 1 to 0, the redder. Each heatmap cell shows the highest value
    of all landmarks, from 0 (transparent) to 1.

    Args:
        face: the predictions; without heatmaps the right half is left out.
        pixels: the whole image, upright, uint8 ``(H, W, 3)``, RGB.

    Returns:
        uint8 ``(h, w, 3)``, RGB.
    """
    to_picture, size = _zoom(face)
    photograph = cv2.warpAffine(pixels, to_picture, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    halves = [_with_points(photograph, face.points @ to_picture[:, :2].T + to_picture[:, 2], face.confidence)]
    if face.heatmaps is not None:
        to_image = np.vstack([face.to_image, [0, 0, 1]])
        highest = face.heatmaps.max(axis=0).astype(np.float32)
        halves.append(_with_heatmap(photograph, cv2.warpAffine(highest, to_picture @ to_image, size)))
    return np.hstack(halves)


def _zoom(face: LandmarkedFace) -> tuple[np.ndarray, tuple[int, int]]:
    """The affine map ``(2, 3)`` from the image to the picture of the box, and that picture's width and height."""
    left, top, width, height = face.box
    zoom = max(1.0, SIDE / max(width, height))
    to_picture = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
    return to_picture, (max(1, round(width * zoom)), max(1, round(height * zoom)))


def _with_points(picture: np.ndarray, points: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    picture = picture.copy()
    radius = max(2, round(max(picture.shape) / 130))
    for point, score in zip(points, np.clip(confidence, 0, 1)):
        colour = tuple(int(score * sure + (1 - score) * unsure) for sure, unsure in zip(SURE, UNSURE))
        place = tuple(int(value) for value in np.rint(point * 16))  # in sixteenths of a pixel
        for reach, shade in ((radius + 1, (0, 0, 0)), (radius, colour)):
            cv2.circle(picture, place, 16 * reach, shade, thickness=-1, lineType=cv2.LINE_AA, shift=4)
    return picture


def _with_heatmap(picture: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    height = np.clip(heatmap, 0, 1)
    colour = 255 * colormaps["plasma"](np.sqrt(height))[..., :3]
    alpha = np.clip(4 * height, 0, 0.85)[..., None]
    return (alpha * colour + (1 - alpha) * grey).astype(np.uint8)
