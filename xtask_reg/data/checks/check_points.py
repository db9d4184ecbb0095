"""Checks of the landmarks in one file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtask_reg.data.checks.finding import Finding
from xtask_reg.data.coco import landmark_names
from xtask_reg.data.images import lie_outside

_SHOWN = 5


@dataclass(frozen=True)
class _Faces:
    """The annotations of a file as arrays, N faces with K landmarks."""

    places: list[str]
    names: list[str]
    flip: np.ndarray
    points: np.ndarray
    visibility: np.ndarray
    sizes: np.ndarray
    boxes: np.ndarray

    @property
    def annotated(self) -> np.ndarray:
        return self.visibility > 0


def check_points(file: Path, content: dict[str, Any]) -> Iterator[Finding]:
    """Findings about names, flip pairs, points and boxes in the ``content`` of ``file``."""
    try:
        flip = np.array(landmark_names(file).flip)
    except ValueError as error:
        yield Finding("error", file, str(error).removeprefix(f"{file}: "))
        flip = np.arange(len(content["categories"][0]["keypoints"]))
    faces = _faces(content, flip)
    yield from (Finding("error", file, message) for message in _outside(faces))
    for check in (
        _outside_with_visibility_1,
        _outside_box,
        _coinciding,
        _repeated,
        _never,
        _unpaired,
        _other_way_round,
    ):
        yield from (Finding("warning", file, message) for message in check(faces))


def _faces(content: dict[str, Any], flip: np.ndarray) -> _Faces:
    annotations = content["annotations"]
    names = [str(name) for name in content["categories"][0]["keypoints"]]
    images = {image["id"]: image for image in content["images"]}
    of_annotation = [images[annotation["image_id"]] for annotation in annotations]
    values = np.array([annotation["keypoints"] for annotation in annotations], dtype=float)
    values = values.reshape(len(annotations), len(names), 3)
    return _Faces(
        places=[image["file_name"] for image in of_annotation],
        names=names,
        flip=flip,
        points=values[..., :2],
        visibility=values[..., 2],
        sizes=np.array([[image["width"], image["height"]] for image in of_annotation], dtype=float),
        boxes=np.array([annotation["bbox"] for annotation in annotations], dtype=float),
    )


def _outside(faces: _Faces) -> Iterator[str]:
    wrong = (faces.visibility == 2) & lie_outside(faces.points, faces.sizes[:, None])
    for row in np.flatnonzero(wrong.any(axis=1)):
        marked = np.flatnonzero(wrong[row])
        shown = [f"{faces.names[k]!r} at ({faces.points[row, k, 0]:g}, {faces.points[row, k, 1]:g})" for k in marked]
        width, height = faces.sizes[row]
        yield f"{faces.places[row]} ({width:g} x {height:g}): landmarks outside the image: {_some(shown)}"


def _outside_with_visibility_1(faces: _Faces) -> Iterator[str]:
    occluded = (faces.visibility == 1) & lie_outside(faces.points, faces.sizes[:, None])
    if occluded.any():
        shown = [repr(faces.names[k]) for k in np.flatnonzero(occluded.any(axis=0))]
        yield f"landmarks outside their image, with visibility 1: {_some(shown)}"


def _outside_box(faces: _Faces) -> Iterator[str]:
    """Landmarks outside of their box, to which the configs crop the image."""
    corner, extent = faces.boxes[:, None, :2], faces.boxes[:, None, 2:]
    inside_image = ~lie_outside(faces.points, faces.sizes[:, None])
    missed = faces.annotated & inside_image & lie_outside(faces.points - corner, extent)
    if missed.any():
        rows = np.flatnonzero(missed.any(axis=1))
        shown = [f"{faces.places[row]} (bbox {faces.boxes[row].tolist()})" for row in rows]
        yield f"landmarks outside their bbox, which is [x, y, width, height], in {_some(shown)}"


def _coinciding(faces: _Faces) -> Iterator[str]:
    pairs = [pair for points, annotated in zip(faces.points, faces.annotated) for pair in _alike(points, annotated)]
    if pairs:
        shown = [
            f"{faces.names[a]!r} and {faces.names[b]!r} (in {times} of {len(faces.places)} faces)"
            for (a, b), times in Counter(pairs).most_common()
        ]
        yield f"landmarks at the same place: {_some(shown)}"


def _repeated(faces: _Faces) -> Iterator[str]:
    for place, times in Counter(faces.places).items():
        if times > 1:
            yield f"{place} has {times} annotations"


def _never(faces: _Faces) -> Iterator[str]:
    seen = np.any(faces.annotated, axis=0)
    never = [name for name, here, there in zip(faces.names, seen, seen[faces.flip]) if not (here or there)]
    if never:
        yield f"never annotated: {_some(never)}"


def _unpaired(faces: _Faces) -> Iterator[str]:
    shown = [f"{left!r} and {right!r}" for left, right in _sides_apart(faces.names, faces.flip)]
    if shown:
        yield f"named left and right, but not paired by flip_index: {_some(shown)}"


def _other_way_round(faces: _Faces) -> Iterator[str]:
    """Faces in which most flip pairs have the left-to-right order of the minority of faces."""
    first = np.flatnonzero(faces.flip > np.arange(len(faces.flip)))
    second, x, annotated = faces.flip[first], faces.points[..., 0], faces.annotated
    order = np.sign(x[:, second] - x[:, first]) * (annotated[:, second] & annotated[:, first])
    usual = np.sign(order.sum(axis=0))
    for row in np.flatnonzero((order * usual).sum(axis=1) < 0):
        yield f"{faces.places[row]}: flip pairs are swapped compared with the other faces"


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _alike(points: np.ndarray, annotated: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of landmarks at exactly the same place, the earlier one first."""
    first_at: dict[tuple[float, ...], int] = {}
    pairs = []
    for index in np.flatnonzero(annotated).tolist():
        first = first_at.setdefault(tuple(points[index].tolist()), index)
        if first != index:
            pairs.append((first, index))
    return pairs


def _sides_apart(names: Sequence[str], flip: np.ndarray) -> Iterator[tuple[str, str]]:
    """Pairs of names that differ only in left and right, but are not a flip pair."""
    sides = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    place = {name: index for index, name in enumerate(names)}
    for index, name in enumerate(names):
        other = re.sub("[Ll]eft|[Rr]ight", lambda side: sides[side[0]], name)
        if other != name and place.get(other, -1) > index and flip[index] != place[other]:
            yield name, other
