"""Writes landmark tables as COCO-style files with one square crop per face."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from xtask_reg.data.coco import MM_PER_PIXEL, is_pairing
from xtask_reg.data.conversion.faces import Crop, Face, Outside, cut_face
from xtask_reg.data.conversion.formats import LandmarkTable
from xtask_reg.data.conversion.formats.csv_table import SPLITS
from xtask_reg.data.conversion.notes import notes_of
from xtask_reg.data.conversion.splits import check_splits
from xtask_reg.data.images import MIN_SIZE
from xtask_reg.data.progress import track
from xtask_reg.landmarks.coco_annotation import coco_annotation
from xtask_reg.new_folder import new_folder

_FAULTS_SHOWN = 20


@dataclass(frozen=True)
class Summary:
    """What was written: images and persons by split, names, points without annotation, and notes."""

    images: dict[str, int]
    persons: dict[str, int]
    names: tuple[str, ...]
    unannotated: int
    notes: tuple[str, ...]


def convert_landmarks(
    table: LandmarkTable,
    out: Path,
    flip: Sequence[int],
    splits: Sequence[str],
    size: int = 256,
    margin: float = 0.25,
    outside: Outside = "error",
    crop: Crop = "landmarks",
) -> Summary:
    """Write ``out/{train,val,test}.json`` and ``out/images/*.png``, in the form that ``LandmarkDataset`` reads.

    Each face is cut out by :class:`~xtask_reg.data.conversion.crops.Square` and scaled to ``size``. A point has
    visibility 2 or, where it is not annotated, 0; the box is the whole crop. An image entry has the extra fields
    ``source`` (the original path), ``crop`` (left, top and side in the original) and, where they are known, ``person``
    and ``mm_per_pixel`` of the crop. ``out`` appears complete or not at all.

    Args:
        table: the faces; on each at least two landmarks are annotated, or one with ``crop="whole"``.
        out: the folder to write; it must not exist, or be empty.
        flip: for each landmark the index of its mirror image.
        splits: ``train``, ``val`` or ``test`` for each face.
        size: width and height of the crops, at least 32.
        margin: what the crop adds on each side, as a share of the landmarks' extent.
        outside: what becomes of a landmark outside of its image: an ``"error"``, ``"clip"`` to the border, or
            ``"mask"`` (not annotated).
        crop: the square around the ``"landmarks"``, or around the ``"whole"`` image, with black beside it.

    Raises:
        FileExistsError: if ``out`` exists and is not an empty folder.
        ValueError: for a bad size, margin, flip or split, a person in two splits, several faces of one whole image, and
            for images that cannot be converted: missing, damaged, too small, with a landmark outside, or with landmarks
            too close together. These are named together.
    """
    _check(table, flip, splits, size, margin)
    if crop == "whole":
        _check_one_face_each(table.files)
    names = file_names(table.files)
    contents = {split: _empty(table.names, flip) for split in SPLITS}
    faults: list[str] = []
    found: Counter[str] = Counter()
    with new_folder(out) as folder:
        (folder / "images").mkdir()
        for row in track(range(len(table.files)), "cutting out faces"):
            try:
                face = cut_face(table, row, size, margin, outside, crop)
            except (ValueError, OSError) as error:
                faults.append(str(error))
                continue
            found.update(outside=face.outside, turned=face.turned, dark=face.dark)
            (folder / names[row]).write_bytes(cv2.imencode(".png", face.image)[1].tobytes())
            content = contents[splits[row]]
            number = len(content["images"]) + 1
            content["images"].append(_image(table, row, face, names[row], number))
            visibility = np.where(face.annotated, 2, 0)
            content["annotations"].append(coco_annotation(number, number, (0, 0, size, size), face.points, visibility))
        if faults:
            raise ValueError(_report(faults, len(table.files)))
        for split, content in contents.items():
            if content["images"]:
                (folder / f"{split}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    notes = (*table.notes, *notes_of(table, found, outside))
    return _summary(table, splits, found["outside"] if outside == "mask" else 0, notes)


def file_names(files: Sequence[str]) -> list[str]:
    """A path ``images/*.png`` for each file: plain characters, no sub-folders, distinct even if case is ignored."""
    taken: set[str] = set()
    names = []
    for file in files:
        plain = re.sub(r"[^A-Za-z0-9-]+", "_", str(Path(file).with_suffix(""))).strip("_-")[-100:] or "image"
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.lower())
        names.append(f"images/{name}.png")
    return names


def _check(table: LandmarkTable, flip: Sequence[int], splits: Sequence[str], size: int, margin: float) -> None:
    if size < MIN_SIZE or not 0 <= margin <= 10:
        raise ValueError(f"size {size} must be at least {MIN_SIZE} pixels, and margin {margin:g} between 0 and 10")
    if not is_pairing(flip, len(table.names)):
        raise ValueError(f"flip must pair the {len(table.names)} landmarks mutually, got {list(flip)}")
    if len(splits) != len(table.files) or not set(splits) <= set(SPLITS):
        raise ValueError(
            f"splits must be {', '.join(SPLITS)}, one for each of {len(table.files)} images, "
            f"got {len(splits)} of {set(splits)}"
        )
    if table.persons is not None:
        check_splits(table.persons, splits)


def _check_one_face_each(files: Sequence[str]) -> None:
    file, times = Counter(files).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{file} has {times} faces, whose crops would all be that image: leave out --crop whole")


def _empty(names: Sequence[str], flip: Sequence[int]) -> dict[str, Any]:
    category = {"id": 1, "name": "face", "keypoints": list(names), "skeleton": [], "flip_index": list(flip)}
    info = {"coordinates": "pixels, integer = pixel centre"}
    return {"info": info, "images": [], "annotations": [], "categories": [category]}


def _image(table: LandmarkTable, row: int, face: Face, file_name: str, number: int) -> dict[str, Any]:
    size, square = len(face.image), face.square
    return {
        "id": number,
        "file_name": file_name,
        "width": size,
        "height": size,
        "source": table.files[row],
        "crop": [square.left, square.top, square.side],
        **({} if table.persons is None else {"person": table.persons[row]}),
        **({} if table.mm_per_pixel is None else {MM_PER_PIXEL: table.mm_per_pixel[row] * square.side / size}),
    }


def _summary(table: LandmarkTable, splits: Sequence[str], masked: int, notes: tuple[str, ...]) -> Summary:
    persons = table.files if table.persons is None else table.persons
    members = {split: [person for person, of in zip(persons, splits) if of == split] for split in SPLITS}
    return Summary(
        images={split: len(of_split) for split, of_split in members.items()},
        persons={split: len(set(of_split)) for split, of_split in members.items()},
        names=table.names,
        unannotated=int((~table.annotated).sum()) + masked,
        notes=notes,
    )


def _report(faults: list[str], count: int) -> str:
    more = [f"... and {len(faults) - _FAULTS_SHOWN} more"] if len(faults) > _FAULTS_SHOWN else []
    return "\n  ".join([f"{len(faults)} of {count} images cannot be converted:", *faults[:_FAULTS_SHOWN], *more])
