"""Checks of the landmarks in one file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..coco import landmark_names
from ..images import lie_outside
from .finding import Finding

_SHOWN = 5


def check_points(file: Path, content: dict[str, Any]) -> Iterator[Finding]:
    """Findings about names, flip pairs and points; ``content`` is that of ``file``."""
    names = [str(name) for name in content["categories"][0]["keypoints"]]
    flip = np.arange(len(names))
    try:
        flip = np.array(landmark_names(file).flip)
    except (ValueError, TypeError) as error:
        yield Finding("error", file, str(error).removeprefix(f"{file}: "))
    images = {image["id"]: image for image in content["images"]}
    of_annotation = [images[annotation["image_id"]] for annotation in content["annotations"]]
    places = [image["file_name"] for image in of_annotation]
    values = np.array([annotation["keypoints"] for annotation in content["annotations"]], dtype=float)
    values = values.reshape(len(places), len(names), 3)
    points, annotated = values[..., :2], values[..., 2] > 0
    sizes = np.array([[image["width"], image["height"]] for image in of_annotation], dtype=float)

    outside = annotated & lie_outside(points, sizes[:, None])
    wrong = outside & (values[..., 2] == 2)
    for row in np.flatnonzero(wrong.any(axis=1)):
        shown = [f"{names[k]!r} at ({points[row, k, 0]:g}, {points[row, k, 1]:g})" for k in np.flatnonzero(wrong[row])]
        width, height = sizes[row]
        yield Finding("error", file, f"{places[row]} ({width:g} x {height:g}): outside lie {_some(shown)}")
    if (outside & ~wrong).any():
        shown = [repr(names[k]) for k in np.flatnonzero((outside & ~wrong).any(axis=0))]
        yield Finding("warning", file, f"outside of their image, with visibility 1, are {_some(shown)}")
    coinciding = [pair for row in range(len(places)) for pair in _coinciding(points[row], annotated[row])]
    if coinciding:
        counted = Counter(coinciding).most_common()
        shown = [f"{names[a]!r} and {names[b]!r} (in {times} of {len(places)} faces)" for (a, b), times in counted]
        yield Finding("warning", file, f"at the same place are {_some(shown)}")
    for place, times in Counter(places).items():
        if times > 1:
            yield Finding("warning", file, f"{place} has {times} annotations")
    seen = annotated.any(axis=0)
    never = [name for name, here, there in zip(names, seen, seen[flip]) if not (here or there)]
    if never:
        yield Finding("warning", file, f"never annotated: {_some(never)}")
    unpaired = [f"{left!r} and {right!r}" for left, right in _unpaired(names, flip)]
    if unpaired:
        yield Finding("warning", file, f"no flip pairs are {_some(unpaired)}")
    for row in _other_way_round(points[..., 0], annotated, flip):
        yield Finding("warning", file, f"{places[row]}: flip pairs lie the other way round than in the other faces")


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _coinciding(points: np.ndarray, annotated: np.ndarray) -> list[tuple[int, int]]:
    """Each landmark that has the very place of an earlier one, behind that one."""
    first_at: dict[tuple[float, ...], int] = {}
    pairs = []
    for index in np.flatnonzero(annotated).tolist():
        first = first_at.setdefault(tuple(points[index].tolist()), index)
        if first != index:
            pairs.append((first, index))
    return pairs


def _unpaired(names: Sequence[str], flip: np.ndarray) -> Iterator[tuple[str, str]]:
    """Names that become each other when left and right are exchanged, but are not each other's mirror image."""
    sides = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    place = {name: index for index, name in enumerate(names)}
    for index, name in enumerate(names):
        other = re.sub("[Ll]eft|[Rr]ight", lambda side: sides[side[0]], name)
        if other != name and place.get(other, -1) > index and flip[index] != place[other]:
            yield name, other


def _other_way_round(x: np.ndarray, annotated: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Rows in which most flip pairs have the order from left to right that they have in the minority of rows."""
    first = np.flatnonzero(flip > np.arange(len(flip)))
    order = np.sign(x[:, flip[first]] - x[:, first]) * (annotated[:, flip[first]] & annotated[:, first])
    usual = np.sign(order.sum(axis=0))
    return np.flatnonzero((order * usual).sum(axis=1) < 0)
