"""The faces to process: image files, and boxes in them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from xtask_reg.data.conversion.formats.csv_table import read_rows
from xtask_reg.data.conversion.formats.table import composed, number
from xtask_reg.data.images import SUFFIXES, is_shown_image
from xtask_reg.landmarks.face_files import BOX
from xtask_reg.landmarks.faces import Box, Face


def image_files(paths: Iterable[Path]) -> list[Path]:
    """The given image files and those in the given folders, each once.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if a folder has no image.
    """
    found: dict[Path, None] = {}
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if is_shown_image(file))
            if not files:
                raise ValueError(f"the folder {path} itself has no image ({', '.join(SUFFIXES)}){_below(path)}")
        elif not path.is_file():
            raise FileNotFoundError(f"the image {path} does not exist, or is not a file")
        found |= dict.fromkeys(files)
    return list(found)


def read_boxes(path: Path, images: Sequence[Path]) -> list[Face]:
    """The faces in the images, from a CSV file with the columns file, left, top, width and height, in pixels.

    A ``file`` is the end of the image's path: its name, with as many folders as are needed to identify it; accents may
    be encoded differently. An image may have several lines, one per face; lines of other images are ignored.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a missing column, a box without size, a line that fits several images, or an image without one.
    """
    header, rows = read_rows(path)
    missing = [column for column in ("file", *BOX) if column not in header]
    if missing:
        raise ValueError(f"{path}: the header lacks {', '.join(missing)}")
    boxes: dict[Path, list[Box]] = defaultdict(list)
    named: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        named[composed(image.name)].append(image)
    for line, cells in rows:
        box = check_box([number(cells[side], f"{path}, line {line}, column {side}") for side in BOX])
        end = PurePosixPath(PureWindowsPath(composed(cells["file"])).as_posix()).parts
        meant = [image for image in named.get(end[-1] if end else "", []) if _parts(image)[-len(end) :] == end]
        if len(meant) > 1:
            raise ValueError(
                f"{path}, line {line}: {cells['file']} fits {' and '.join(map(str, meant[:3]))}; add the folder"
            )
        for image in meant:
            boxes[image].append(box)
    without = [str(image) for image in images if image not in boxes]
    if without:
        raise ValueError(f"{path} has no box for {len(without)} of {len(images)} images, e.g. {without[0]}")
    return [Face(image, box) for image in images for box in boxes[image]]


def check_box(values: Sequence[float]) -> Box:
    """The box, if its numbers are finite and its size is positive.

    Raises:
        ValueError: otherwise.
    """
    left, top, width, height = values
    if not (width >= 1 and height >= 1 and all(map(math.isfinite, values))):
        given = " ".join(f"{value:g}" for value in values)
        raise ValueError(f"box {given}: expected a width and height of at least 1, and finite numbers")
    return left, top, width, height


def _below(folder: Path) -> str:
    """The part of an error message that says where the folder's images may be."""
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return f"; name the folders within it, such as {folder / inner[0]}" if inner else ""


def _parts(image: Path) -> tuple[str, ...]:
    return PurePosixPath(composed(image.absolute().as_posix())).parts
