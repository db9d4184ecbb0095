"""Flip pairs: which landmark becomes which when the image is mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from xtask_reg.data.conversion.formats.csv_table import read_cells
from xtask_reg.data.conversion.formats.table import LandmarkTable

IBUG_68 = (
    *range(16, -1, -1),  # jaw
    *range(26, 16, -1),  # eyebrows
    *range(27, 31),  # bridge of the nose
    *range(35, 30, -1),  # nostrils
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
    *range(54, 47, -1),  # outer lips
    *range(59, 54, -1),
    *range(64, 59, -1),  # inner lips
    *range(67, 64, -1),
)
WFLW_98 = (
    *range(32, -1, -1),  # jaw
    *(46, 45, 44, 43, 42, 50, 49, 48, 47, 37, 36, 35, 34, 33, 41, 40, 39, 38),  # eyebrows
    *range(51, 55),  # bridge of the nose
    *range(59, 54, -1),  # nostrils
    *(72, 71, 70, 69, 68, 75, 74, 73, 64, 63, 62, 61, 60, 67, 66, 65),  # eyes
    *range(82, 75, -1),  # outer lips
    *range(87, 82, -1),
    *range(92, 87, -1),  # inner lips
    *range(95, 92, -1),
    *(97, 96),  # pupils
)
BUILT_IN = {"ibug68": IBUG_68, "wflw98": WFLW_98}
"""For each of iBUG's 68 and WFLW's 98 landmarks the index of its mirror image."""


def built_in_flip(name: str, count: int) -> tuple[int, ...]:
    """The entry ``name`` of ``BUILT_IN``, for ``count`` landmarks.

    Raises:
        ValueError: if it is made for another number of landmarks.
    """
    flip = BUILT_IN[name]
    if len(flip) != count:
        raise ValueError(f"the flip pairs {name} are for {len(flip)} landmarks; there are {count}")
    return flip


def read_flip_pairs(path: Path, names: Sequence[str]) -> tuple[int, ...]:
    """For each landmark the index of its mirror image, from a CSV file with one pair of names per line.

    Landmarks that are not in the file are their own mirror image. A first line ``left,right`` is a header, unless
    these are landmarks. Names are separated as in :func:`read_cells`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a line that is not a pair, an unknown name, or a landmark that is paired with itself or twice;
            with the line's number.
    """
    flip = list(range(len(names)))
    place = {name: index for index, name in enumerate(names)}
    lines = read_cells(path)
    if lines and lines[0][1] == ["left", "right"] and not place.keys() & {"left", "right"}:
        del lines[0]
    for line, pair in lines:
        where = f"{path}, line {line}"
        if len(pair) != 2:
            raise ValueError(f"{where}: {pair}; expected the names of two landmarks")
        unknown = [name for name in pair if name not in place]
        if unknown:
            raise ValueError(f"{where}: no landmark {unknown}; the landmarks are {list(names)}")
        first, second = (place[name] for name in pair)
        if first == second:
            raise ValueError(f"{where}: {pair[0]!r} is paired with itself; leave out what is its own mirror image")
        twice = [name for name in pair if flip[place[name]] != place[name]]
        if twice:
            raise ValueError(f"{where}: {twice} already have a pair")
        flip[first], flip[second] = second, first
    return tuple(flip)


def with_mirrored(
    table: LandmarkTable, flip: Sequence[int], names: Sequence[str]
) -> tuple[LandmarkTable, tuple[int, ...]]:
    """Give each landmark in ``names`` a partner ``<name>_mirrored`` that is annotated nowhere.

    For data in which only one eye is annotated: a flip then moves the label to the partner and leaves the original
    without one, instead of giving the other eye the name of the annotated one.

    Raises:
        ValueError: for a name that is unknown, repeated, or has a flip pair, or whose partner's name is taken.
    """
    place = {name: index for index, name in enumerate(table.names)}
    unknown = [name for name in names if name not in place]
    if unknown:
        raise ValueError(f"no landmark {unknown} to mirror; the landmarks are {list(table.names)}")
    paired = [name for name in names if flip[place[name]] != place[name]]
    if paired:
        raise ValueError(f"{paired} already have a flip pair; mirror only landmarks whose other side is not annotated")
    partners = tuple(f"{name}_mirrored" for name in names)
    indices = [place[name] for name in names]
    new_flip = [*flip, *indices]
    for partner, index in enumerate(indices, len(flip)):
        new_flip[index] = partner
    rows = len(table.files)
    mirrored = replace(
        table,
        points=np.concatenate([table.points, np.zeros((rows, len(names), 2))], axis=1),
        annotated=np.concatenate([table.annotated, np.zeros((rows, len(names)), dtype=bool)], axis=1),
        names=(*table.names, *partners),
    )
    return mirrored, tuple(new_flip)
