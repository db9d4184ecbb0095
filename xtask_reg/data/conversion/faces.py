"""One face of a landmark table, cut out of its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from xtask_reg.data.conversion.crops import Square
from xtask_reg.data.conversion.formats import LandmarkTable
from xtask_reg.data.images import is_nearly_black, is_turned, lie_outside, read_image

Outside = Literal["error", "clip", "mask"]
Crop = Literal["landmarks", "whole"]
_SHORTEST = 4


@dataclass(frozen=True)
class Face:
    """A crop with its landmarks.

    Attributes:
        image: ``(size, size, 3)`` in BGR.
        square: what was cut out of the original.
        points: ``(K, 2)`` in pixels of the crop; 0 where not annotated.
        annotated: ``(K,)``.
        outside: number of landmarks that were outside of the original.
        turned: whether the original has an EXIF orientation.
        dark: whether the original is nearly black.
    """

    image: np.ndarray
    square: Square
    points: np.ndarray
    annotated: np.ndarray
    outside: int
    turned: bool
    dark: bool


def cut_face(table: LandmarkTable, row: int, size: int, margin: float, outside: Outside, crop: Crop) -> Face:
    """The face in ``row``; arguments as of :func:`xtask_reg.data.conversion.convert.convert_landmarks`.

    Raises:
        FileNotFoundError: if there is no such image.
        ValueError: if the image cannot be used, a landmark lies outside of it and that is an error, or the landmarks
            span less than 4 pixels, in a whole image together with its first pixel.
    """
    path = table.root / table.files[row]
    image = read_image(path)
    points, annotated = table.points[row], table.annotated[row]
    limit = np.array([image.shape[1], image.shape[0]])
    beyond = annotated & lie_outside(points, limit)
    if beyond.any() and outside == "error":
        first = int(np.flatnonzero(beyond)[0])
        x, y = points[first]
        raise ValueError(
            f"{path}: landmarks outside the image: {beyond.sum()}, e.g. {table.names[first]!r} at ({x:g}, {y:g}); "
            f"the image is {limit[0]} x {limit[1]} pixels (--outside clip or mask)"
        )
    if outside == "clip":
        points = np.where(beyond[:, None], points.clip(0, limit - 1), points)
    if outside == "mask":
        annotated = annotated & ~beyond
    span = _span(points[annotated], crop)
    if span < _SHORTEST:
        raise ValueError(
            f"{path}: the {annotated.sum()} annotated landmarks span {span:g} pixels; a crop needs {_SHORTEST} "
            "(are the coordinates pixels, not fractions of the image?)"
        )
    whole = Square.of_whole(*image.shape[:2])
    square = whole if crop == "whole" else Square.around(points[annotated], margin)
    in_crop = np.where(annotated[:, None], square.transform(points, size), 0)
    return Face(
        image=square.cut(image, size),
        square=square,
        points=in_crop,
        annotated=annotated,
        outside=int(beyond.sum()),
        turned=is_turned(path),
        dark=is_nearly_black(image),
    )


def _span(points: np.ndarray, crop: Crop) -> float:
    """The extent of the points, which is tiny if they are fractions of the image; in a whole image, from pixel 0 on."""
    reached = np.concatenate([points, np.zeros((1, 2))]) if crop == "whole" else points
    return float(np.ptp(reached, axis=0).max()) if len(points) else 0.0
