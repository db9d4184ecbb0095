"""Checks landmark files that can be read for errors and suspicious content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xtask_reg.data.checks.check_images import check_images
from xtask_reg.data.checks.check_points import check_points
from xtask_reg.data.checks.finding import Finding
from xtask_reg.data.coco import LandmarkNames, check_landmark_file, difference, landmark_names


def check_data(files: Sequence[Path], images: Path | None = None) -> list[Finding]:
    """Everything that is wrong or suspicious in COCO-style landmark files that are used together.

    Errors: landmarks outside of their image; flip pairs that are not mutual; images that are missing, damaged, less
    than 32 pixels wide or high, or not of the size that the file says; images of equal pixels in two files; a person
    (field ``person`` of the images) in two files; files that differ in the names or flip pairs of their landmarks, or
    in their order.

    Warnings: landmarks outside of their box; images of equal pixels in one file; nearly black images; several
    annotations of one image; two landmarks of a face at the same place; landmarks that are annotated nowhere, and whose
    mirror image is not either; names of a left and a right landmark that are no flip pair; faces whose flip pairs
    mostly lie the other way round than in the other faces.

    Args:
        files: the landmark files; those of one data set together.
        images: folder that the image paths are relative to; that of each landmark file by default.

    Raises:
        FileNotFoundError: if a landmark file does not exist.
        ValueError: if a landmark file cannot be read (see :func:`xtask_reg.data.coco.check_landmark_file`), is given
            twice, or names a person by a list.
    """
    if len({file.resolve() for file in files}) < len(files):
        raise ValueError(f"a file is given twice: {', '.join(map(str, files))}")
    contents = {file: check_landmark_file(file) for file in files}
    findings = [finding for file, content in contents.items() for finding in check_points(file, content)]
    return [*findings, *_check_landmarks(files), *_check_persons(contents), *check_images(contents, images)]


def _check_landmarks(files: Sequence[Path]) -> Iterator[Finding]:
    """Findings if the readable files differ in their landmarks or the order of these."""
    said = {file: names for file in files if (names := _names(file)) is not None}
    for file, names in list(said.items())[1:]:
        first, others = next(iter(said.items()))
        if names.names != others.names:
            yield Finding("error", file, f"{difference(names.names, others.names)} in {first}")
        elif names.flip != others.flip:
            yield Finding("error", file, f"has other flip pairs than {first}")


def _names(file: Path) -> LandmarkNames | None:
    try:
        return landmark_names(file)
    except ValueError:
        return None  # check_points reports why


def _check_persons(contents: Mapping[Path, dict[str, Any]]) -> Iterator[Finding]:
    files_of: dict[Any, dict[Path, None]] = defaultdict(dict)
    for file, content in contents.items():
        for image in content["images"]:
            person = image.get("person")
            if not isinstance(person, (str, int, type(None))):
                raise ValueError(f"{file}: person {person!r} of {image['file_name']}; expected a name or a number")
            if person is not None:
                files_of[person][file] = None
    for person, (first, *others) in files_of.items():
        if others:
            yield Finding("error", first, f"the person {person!r} also is in {', '.join(map(str, others))}")
