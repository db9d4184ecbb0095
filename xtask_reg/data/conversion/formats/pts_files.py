"""iBUG .pts files: one per face, beside its image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from xtask_reg.data.conversion.formats.table import LandmarkTable, numbers, read_text
from xtask_reg.data.files_below import files_below

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read_pts(path: Path, images: Path | None = None, first_pixel: float = 1.0) -> LandmarkTable:
    """A .pts file, or all in a folder and the folders in it (links too, hidden ones not), in the order of their names.

    A file is ``version: 1``, ``n_points: 68``, then one point a line between ``{`` and ``}``. The format does not say
    where it counts from. The files in use come from Matlab and call the top left pixel (1, 1); menpo's importer
    therefore subtracts 1 too (menpo issue 160).

    Args:
        path: the file or folder.
        images: folder of the images, in sub-folders as the .pts files are; beside them by default. An image has the
            name of its .pts file but for the suffix, which is one of ``IMAGE_SUFFIXES``.
        first_pixel: what the files call the centre of the top left pixel, subtracted from all coordinates.

    Raises:
        FileNotFoundError: if there is no .pts file, or no image to one.
        ValueError: if a file is cut off or malformed, has not as many points as it says or as the others, a value is no
            finite number, or two images fit.
    """
    files = [path] if path.is_file() else _pts_files(path)
    if not files:
        raise FileNotFoundError(f"{path} is neither a .pts file nor a folder with .pts files")
    base = path.parent if path.is_file() else path
    root = images or base
    points = [_read_points(file) for file in files]
    unlike = [index for index, found in enumerate(points) if len(found) != len(points[0])]
    if unlike:
        index = unlike[0]
        raise ValueError(
            f"all files must have the same landmarks: {files[0]} has {len(points[0])} points, "
            f"{files[index]} has {len(points[index])}"
        )
    places = [root / file.relative_to(base) for file in files]
    stems = _images_by_stem({place.parent for place in places})
    found = tuple(_image(stems, *each).relative_to(root).as_posix() for each in zip(places, files))
    values = np.array(points) - first_pixel
    names = tuple(map(str, range(values.shape[1])))
    return LandmarkTable(root, found, values, np.ones(values.shape[:2], dtype=bool), names)


def _pts_files(path: Path) -> list[Path]:
    return sorted(file for file in files_below(path) if file.suffix.lower() == ".pts") if path.is_dir() else []


def _read_points(path: Path) -> list[list[float]]:
    lines = [(number, line.split()) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    start = next((index for index, (_, words) in enumerate(lines) if words == ["{"]), None)
    if start is None or lines[-1][1] != ["}"]:
        raise ValueError(f"{path}: expected points between lines '{{' and '}}'; the file may be cut off")
    header = dict(" ".join(words).replace(" ", "").split(":", 1) for _, words in lines[:start] if ":" in "".join(words))
    if header.get("version", "1") != "1":
        raise ValueError(f"{path}: version {header['version']!r}; expected 1")
    points = []
    for line, words in lines[start + 1 : -1]:
        where = f"{path}, line {line}"
        if len(words) != 2:
            raise ValueError(f"{where}: {' '.join(words)!r}; expected x and y")
        points.append(numbers(words, where))
    if header.get("n_points") != str(len(points)):
        raise ValueError(f"{path}: n_points is {header.get('n_points')!r}, but there are {len(points)} points")
    if not points:
        raise ValueError(f"{path} has no points")
    return points


def _images_by_stem(folders: Iterable[Path]) -> dict[Path, list[Path]]:
    stems: dict[Path, list[Path]] = defaultdict(list)
    for file in sorted(file for folder in folders if folder.is_dir() for file in folder.iterdir()):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            stems[file.with_suffix("")].append(file)
    return stems


def _image(stems: dict[Path, list[Path]], beside: Path, file: Path) -> Path:
    found = stems.get(beside.with_suffix(""), [])
    if not found:
        raise FileNotFoundError(f"{file}: no image {beside.with_suffix('')} with a suffix {', '.join(IMAGE_SUFFIXES)}")
    if len(found) > 1:
        raise ValueError(f"{file}: {', '.join(image.name for image in found)} all fit; keep one")
    return found[0]
