"""Distances between named landmarks, such as the length of a palpebral fissure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

Pair = tuple[str, str]


def parse_distances(texts: Sequence[str]) -> dict[str, Pair]:
    """The pairs of landmarks, by the name of their distance.

    Args:
        texts: each ``NAME=LANDMARK:LANDMARK``, or the path of a ``.json`` file ``{"NAME": ["LANDMARK", "LANDMARK"]}``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a text that is neither, or a name given twice.
    """
    pairs: dict[str, Pair] = {}
    for text in texts:
        is_file = "=" not in text or Path(text).suffix.lower() == ".json"
        for name, pair in _read(Path(text)) if is_file else [_parse(text)]:
            if name in pairs:
                raise ValueError(f"the distance {name!r} is given twice")
            pairs[name] = pair
    return pairs


def _parse(text: str) -> tuple[str, Pair]:
    name, _, points = text.partition("=")
    first, _, second = points.partition(":")
    if not (name and first and second and ":" not in second):
        raise ValueError(f"{text!r}: expected NAME=LANDMARK:LANDMARK, or a JSON file of them")
    return name, (first, second)


def _read(path: Path) -> list[tuple[str, Pair]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; expected NAME=LANDMARK:LANDMARK, or a JSON file of them")
    expected = f'{path}: expected {{"NAME": ["LANDMARK", "LANDMARK"], ...}}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{expected}, but it is not JSON: {error}") from error
    pairs = list(content.items()) if isinstance(content, dict) else []
    faulty = [name for name, pair in pairs if not _is_pair(pair)]
    if faulty or not pairs:
        raise ValueError(f"{expected}; wrong: {', '.join(faulty) or type(content).__name__}")
    return [(name, (pair[0], pair[1])) for name, pair in pairs]


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(name, str) for name in value)


def check_distances(pairs: Mapping[str, Pair], names: Sequence[str]) -> None:
    """Raise ``ValueError`` if a pair has a landmark that is not among ``names``."""
    for distance, pair in pairs.items():
        unknown = [name for name in pair if name not in names]
        if unknown:
            raise ValueError(f"the distance {distance!r} needs the landmark {unknown[0]!r}; known: {', '.join(names)}")


def distances(
    points: np.ndarray, names: Sequence[str], pairs: Mapping[str, Pair], scale: float = 1.0
) -> dict[str, float]:
    """The Euclidean distance of each pair of landmarks, in pixels times ``scale``.

    Args:
        points: ``(K, 2)``, x and y in pixels.
        names: of the K landmarks.
        pairs: two landmarks by the name of their distance.
        scale: millimetres per pixel, for distances in millimetres.

    Raises:
        ValueError: for an unknown landmark, or a scale that is not finite and positive.
    """
    check_distances(pairs, names)
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale={scale!r}; expected a number above 0, in millimetres per pixel")
    place = dict(zip(names, points, strict=True))
    return {distance: scale * math.dist(place[first], place[second]) for distance, (first, second) in pairs.items()}
