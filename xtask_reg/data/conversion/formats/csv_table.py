"""CSV tables with one image per line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xtask_reg.data.coco import MM_PER_PIXEL
from xtask_reg.data.conversion.formats.table import LandmarkTable, number, read_text, relative_file

FILE_COLUMNS = ("file", "image_name")
SPLITS = ("train", "val", "test")


def read_csv(path: Path, images: Path | None = None, first_pixel: float = 0.0) -> LandmarkTable:
    """A table with a header ``file, x0, y0, x1, y1, ...`` or ``file, <name>_x, <name>_y, ...``.

    ``image_name`` may stand for ``file``, so that HRNet's lists ``image_name, scale, center_w, center_h, original_0_x,
    original_0_y, ...`` can be read. The columns ``person``, ``split`` and ``mm_per_pixel`` are optional; others are
    ignored and named in a note. Where both cells of a point are empty it is not annotated. Columns are separated by
    commas, semicolons or tabs.

    Args:
        path: the CSV file.
        images: folder that the image paths are relative to; that of the CSV file by default.
        first_pixel: what the file calls the centre of the top left pixel: 0, 1 (counted from one) or 0.5 (measured
            from the image's corner); subtracted from all coordinates.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a header without images or landmarks, a line of another length, a cell that is no finite
            number, half a point, a repeated image, a person or split that is missing, or an unknown split; with the
            line and the column.
    """
    header, rows = read_rows(path)
    file_column = _file_column(header, path)
    columns = _landmark_columns(header, path)
    known = {file_column, "person", "split", MM_PER_PIXEL, *(name for pair in columns.values() for name in pair)}
    ignored = [name for name in header if name not in known]
    root = images or path.parent
    lines: dict[str, int] = {}
    points = np.zeros((len(rows), len(columns), 2))
    for row, (line, cells) in enumerate(rows):
        file = relative_file(_filled(cells, file_column, path, line), root)
        if file in lines:
            raise ValueError(f"{path}, lines {lines[file]} and {line}: {file} is listed twice; keep one of them")
        lines[file] = line
        points[row] = [_point(cells, pair, f"{path}, line {line}") for pair in columns.values()]
    annotated = ~np.any(np.isnan(points), axis=-1)
    persons, splits = (_column(rows, name, path) if name in header else None for name in ("person", "split"))
    unknown = sorted(set(splits or ()) - set(SPLITS))
    if unknown:
        raise ValueError(f"{path}: the column 'split' has {unknown}; expected {', '.join(SPLITS)}")
    return LandmarkTable(
        root=root,
        files=tuple(lines),
        points=np.where(annotated[..., None], points - first_pixel, 0),
        annotated=annotated,
        names=tuple(columns),
        persons=persons,
        splits=splits,
        mm_per_pixel=_sizes(rows, path) if MM_PER_PIXEL in header else None,
        notes=(f"ignored columns: {', '.join(ignored)}",) if ignored else (),
    )


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header of a CSV file, and for each further line its number and its cells by column.

    Empty columns after the last that has a name are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there is no line after the header, one has another number of cells, or a column is repeated.
    """
    lines = read_cells(path)
    if len(lines) < 2:
        raise ValueError(f"{path} has no lines after its header")
    header = _without_empty_end(lines[0][1])
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(f"{path}: columns {repeated} appear more than once in the header")
    for line, cells in lines[1:]:
        if len(cells) < len(header) or any(cells[len(header) :]):
            raise ValueError(f"{path}, line {line}: {len(cells)} cells; the header has {len(header)}")
    return header, [(line, dict(zip(header, cells))) for line, cells in lines[1:]]


def _without_empty_end(cells: list[str]) -> list[str]:
    """The cells without empty ones at the end, which spreadsheets write where something was deleted."""
    return cells[: max((index for index, cell in enumerate(cells, start=1) if cell), default=0)]


def read_cells(path: Path) -> list[tuple[int, list[str]]]:
    """The cells of each line of a CSV file that is not empty, with the line's number.

    The separator is a comma, semicolon or tab, whichever is most frequent in the first line. A first line ``sep=;``, as
    Excel writes and reads it, is left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty, or not a CSV file in UTF-8.
    """
    text = read_text(path)
    first = text.lstrip().splitlines()[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    lines = [(line, cells) for line, cells in _cells(reader, path) if any(cells)]
    return lines[1:] if first.startswith("sep=") else lines


def _cells(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        for cells in reader:
            yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _sizes(rows: list[tuple[int, dict[str, str]]], path: Path) -> tuple[float, ...]:
    texts = [(line, _filled(cells, MM_PER_PIXEL, path, line)) for line, cells in rows]
    return tuple(number(text, f"{path}, line {line}, column '{MM_PER_PIXEL}'") for line, text in texts)


def _file_column(header: list[str], path: Path) -> str:
    found = [name for name in FILE_COLUMNS if name in header]
    if len(found) != 1:
        raise ValueError(f"{path}: expected one column 'file' (or 'image_name') in the header {header}")
    return found[0]


def _landmark_columns(header: list[str], path: Path) -> dict[str, tuple[str, str]]:
    """For each landmark, in the order of the header, the names of its x and y columns."""
    columns: dict[str, dict[str, str]] = {}
    for column in header:
        axis, name = _axis_and_name(column)
        if axis and columns.setdefault(name, {}).setdefault(axis, column) != column:
            raise ValueError(f"{path}: {columns[name][axis]} and {column} in the header both are {axis} of {name!r}")
    half = [name for name, axes in columns.items() if set(axes) != {"x", "y"}]
    if half:
        raise ValueError(f"{path}: the header lacks x or y of the landmarks {half}")
    if not columns:
        raise ValueError(f"{path}: no landmark in the header; expected columns such as x0, y0 or nose_x, nose_y")
    return {name: (axes["x"], axes["y"]) for name, axes in columns.items()}


def _axis_and_name(column: str) -> tuple[str, str]:
    if column[:1] in ("x", "y") and column[1:].isdigit():
        return column[0], column[1:]
    if column[-2:] in ("_x", "_y") and len(column) > 2:
        return column[-1], column[:-2]
    return "", ""


def _point(cells: dict[str, str], columns: tuple[str, str], where: str) -> tuple[float, float]:
    """x and y; NaN where the point is not annotated."""
    x, y = (cells[column] for column in columns)
    if not x and not y:
        return math.nan, math.nan
    if not x or not y:
        raise ValueError(f"{where}: only one of {columns[0]} and {columns[1]} is filled; fill or empty both")
    return number(x, f"{where}, column {columns[0]}"), number(y, f"{where}, column {columns[1]}")


def _column(rows: list[tuple[int, dict[str, str]]], name: str, path: Path) -> tuple[str, ...]:
    return tuple(_filled(cells, name, path, line) for line, cells in rows)


def _filled(cells: dict[str, str], column: str, path: Path, line: int) -> str:
    if not cells[column]:
        raise ValueError(f"{path}, line {line}: the column {column!r} is empty")
    return cells[column]
