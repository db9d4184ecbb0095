"""An overview picture of images with their landmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from xtask_reg.data.coco import check_landmark_file, landmark_names
from xtask_reg.data.images import read_image
from xtask_reg.plain_text import plain_text

COLOURS = {"first of a flip pair": "#56B4E9", "second of a flip pair": "#E69F00", "own mirror image": "#F0E442"}
"""From Okabe and Ito's palette."""
_NUMBERED = 30
_COLUMNS = 4
_INCHES = 3.0
_MARKER = {"linestyle": "none", "marker": "o", "markersize": 4, "markeredgecolor": "black", "markeredgewidth": 0.4}
_NUMBER = {
    "fontsize": 6.5,
    "color": "white",
    "ha": "center",
    "va": "center",
    "annotation_clip": True,
    "path_effects": [withStroke(linewidth=1.5, foreground="black")],
}


def contact_sheet(files: Sequence[Path], images: Path | None = None, count: int = 12) -> Figure:
    """Some faces of all files, evenly spread, with landmarks coloured by their place in flip pairs.

    The pictures are cut to the landmarks. Of a pair the first is the one with the lower index. Up to 30 landmarks are
    numbered as in the file, from 0. Points that are not annotated are not drawn. An image that cannot be read is
    named and left empty.

    Args:
        files: COCO-style landmark files.
        images: folder that the image paths are relative to; that of each landmark file by default.
        count: number of images at most.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if ``count`` is below 1, or a landmark file cannot be read or has flip pairs that are not mutual.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    faces = [face for file in files for face in _faces(file, images)]
    chosen = np.unique(np.linspace(0, len(faces) - 1, min(count, len(faces))).round().astype(int))
    columns = min(_COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = Figure(figsize=(columns * _INCHES, rows * (_INCHES + 0.3) + 0.4), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid:
        axes.axis("off")
    groups: set[str] = set()
    for axes, index in zip(grid, chosen):
        try:
            groups.update(_draw(axes, faces[index]))
        except (ValueError, OSError):
            axes.set_title(f"{plain_text(faces[index].path.name[-24:])}: unreadable", fontsize=8)
    used = {group: colour for group, colour in COLOURS.items() if group in groups}
    handles = [Line2D([], [], color=colour, label=group, **_MARKER) for group, colour in used.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(COLOURS), frameon=False)
    return figure


@dataclass(frozen=True)
class _Face:
    path: Path
    keypoints: np.ndarray
    flip: np.ndarray


def _faces(file: Path, images: Path | None) -> list[_Face]:
    content = check_landmark_file(file)
    flip = np.array(landmark_names(file).flip)
    paths = {image["id"]: (images or file.parent) / image["file_name"] for image in content["images"]}
    return [
        _Face(paths[annotation["image_id"]], np.reshape(annotation["keypoints"], (-1, 3)).astype(float), flip)
        for annotation in content["annotations"]
    ]


def _draw(axes: Axes, face: _Face) -> list[str]:
    """Draw one face; returns the keys of the colours that were used."""
    image = read_image(face.path)[..., ::-1]
    points = face.keypoints[:, :2]
    annotated = face.keypoints[:, 2] > 0
    axes.imshow(image)
    axes.set_title(plain_text(face.path.name[-36:]), fontsize=8)
    _look_at(axes, points[annotated] if annotated.any() else np.array([[0, 0], image.shape[1::-1]]))
    index = np.arange(len(face.flip))
    members = dict(zip(COLOURS, (face.flip > index, face.flip < index, face.flip == index)))
    for group, colour in COLOURS.items():
        axes.plot(*points[members[group] & annotated].T, color=colour, **_MARKER)
    if len(index) <= _NUMBERED:
        for k in np.flatnonzero(annotated):
            offset = 7 * _free_direction(points[k], points[annotated])
            axes.annotate(str(k), points[k], offset, textcoords="offset points", **_NUMBER)
    return [group for group, chosen in members.items() if (chosen & annotated).any()]


def _look_at(axes: Axes, points: np.ndarray) -> None:
    """Show a square around the points."""
    x, y = (points.min(axis=0) + points.max(axis=0)) / 2
    half = max(0.65 * np.ptp(points, axis=0).max(), 8)
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))


def _free_direction(point: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The unit vector, y upwards, from the nearest points' centre to this one."""
    nearest = points[np.argsort(((points - point) ** 2).sum(axis=1))[1:5]]
    away = (point - nearest.mean(axis=0)) * (1, -1) if len(nearest) else np.zeros(2)
    return away / np.hypot(*away) if away.any() else np.array([0, 1])
