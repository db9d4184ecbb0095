"""Annotation lists as of WFLW, also made for 300-W: each line has coordinates, then an image path."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from xtask_reg.data.conversion.formats.table import LandmarkTable, numbers, read_text, relative_file

KNOWN = {2 * points + others: points for points in (68, 98) for others in (0, 4, 10)}
"""Points by the number of values per line: coordinates alone, with a box of 4, or with a box and 6 attributes."""


def read_list(
    path: Path, images: Path | None = None, points: int | None = None, first_pixel: float = 0.0
) -> LandmarkTable:
    """A text file of lines ``x0 y0 x1 y1 ... [other numbers] path``; the path may contain blanks.

    WFLW's lists have 98 points, perhaps the box (4 numbers) and 6 attributes, and the path of the image: 207 columns.
    The lists made for 300-W have 68 points in the same layout. WFLW annotates several faces of many images; each is
    an entry of its own here.

    Args:
        path: the list.
        images: folder that the image paths are relative to; that of the list by default.
        points: number of landmarks; 68 or 98 is recognized by the number of columns.
        first_pixel: what the list calls the centre of the top left pixel, subtracted from all coordinates; 1 if they
            were copied from .pts files.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line has fewer numbers than the others, a value that is not finite or no path, if a face is
            listed twice, or if the number of points cannot be told; with the line.
    """
    lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    counts = Counter(_leading_numbers(text.split()) for _, text in lines)
    width = max(counts, key=lambda count: (counts[count], count in KNOWN))
    points = KNOWN.get(width) if points is None else points
    if points is None or not 0 < 2 * points <= width:
        raise ValueError(f"{path}: {width} numbers before the image path; give the number of points (--points)")
    root = images or path.parent
    files, values = [], []
    seen: dict[tuple[object, ...], int] = {}
    for line, text in lines:
        where = f"{path}, line {line}"
        words = text.split(maxsplit=width)
        if _leading_numbers(words[:width]) < width or len(words) == width:
            raise ValueError(f"{where}: expected {width} numbers and a path; {_leading_numbers(words)} numbers found")
        coordinates = numbers(words[: 2 * points], where)
        file = relative_file(words[width], root)
        first = seen.setdefault((file, *coordinates), line)
        if first != line:
            raise ValueError(f"{path}, lines {first} and {line} are the same face of {file}; keep one")
        files.append(file)
        values.append(coordinates)
    array = np.reshape(values, (len(files), points, 2)) - first_pixel
    several = sum(times > 1 for times in Counter(files).values())
    notes = (f"images of several faces: {several}; each face becomes an image of its own",) if several else ()
    names = tuple(map(str, range(points)))
    return LandmarkTable(root, tuple(files), array, np.ones(array.shape[:2], dtype=bool), names, notes=notes)


def _leading_numbers(words: list[str]) -> int:
    for count, word in enumerate(words):
        try:
            float(word)
        except ValueError:
            return count
    return len(words)
