"""Writes sets of faces to disk: landmarks as COCO-style JSON, identities as CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from .identity import Identity
from .landmarks import FLIP_INDEX, LANDMARK_NAMES, SKELETON
from .render import MIN_SIZE, Face, render
from .view import View

_CATEGORY = {
    "id": 1,
    "name": "face",
    "supercategory": "face",
    "keypoints": list(LANDMARK_NAMES),
    "skeleton": [[a + 1, b + 1] for a, b in SKELETON],
    "flip_index": list(FLIP_INDEX),
}


def view_seed(seed: int, person: int, index: int) -> int:
    """The seed of the view in picture ``index`` of ``person`` in the set ``seed``; no other picture influences it."""
    return int(np.random.SeedSequence((seed, person, index)).generate_state(1, np.uint64)[0])


def write_landmark_set(
    root: str | Path, people: Iterable[int], images_per_person: int, size: int, seed: int = 0, split: str = "train"
) -> Path:
    """Write ``root/images/{split}_*.png`` and then ``root/{split}.json``, whose path is returned.

    The JSON follows COCO keypoints: ``images`` have ``file_name`` (relative to ``root``) and the extra field
    ``identity`` (the person's seed); each has one annotation, whose box is the whole picture and whose 14 keypoints
    (x, y in pixels, integer = pixel centre) all have visibility 2. ``categories`` has one entry with the keypoint
    names, the skeleton (1-based, as in COCO) and the extra field ``flip_index`` (0-based).

    With the same library versions the same arguments give the same bytes, and a picture does not depend on how many
    others are drawn. Each file appears complete or not at all, the JSON last; one from an earlier run is removed first.

    Args:
        people: identity seeds; choose them disjoint from those of any other set that must show other people.
        images_per_person: pictures of each person.
        size: picture width and height in pixels, at least 32.
        seed: which views are drawn.
        split: name of the JSON file and prefix of the picture files.

    Raises:
        ValueError: ``people`` is empty, repeats a seed or has a negative one, a number is out of range, or ``split``
            is not a plain file name.
    """
    people = _checked(people, images_per_person, size, seed)
    if not split or Path(split).name != split:
        raise ValueError(f"split must be a plain name such as 'train', got {split!r}")
    target = _cleared(Path(root), f"{split}.json")
    images, annotations = [], []
    for person in people:
        for index in range(images_per_person):
            face, file_name = _write_face(target.parent, split, seed, person, index, size)
            number = len(images) + 1
            images.append({"id": number, "file_name": file_name, "width": size, "height": size, "identity": person})
            annotations.append(_annotation(number, face, size))
    info = {"description": "synthetic faces", "seed": seed, "coordinates": "pixels, integer = pixel centre"}
    content = {"info": info, "images": images, "annotations": annotations, "categories": [_CATEGORY]}
    _replace(target, json.dumps(content, indent=1).encode())
    return target


def write_identity_set(
    root: str | Path, people: Iterable[int], images_per_person: int, size: int, seed: int = 0
) -> Path:
    """Write ``root/images/*.png`` and then ``root/identities.csv``, whose path is returned.

    The CSV has the columns ``file`` (relative to ``root``) and ``identity`` (the person's seed). Arguments, determinism
    and errors are those of :func:`write_landmark_set`.
    """
    people = _checked(people, images_per_person, size, seed)
    target = _cleared(Path(root), "identities.csv")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "identity"])
    for person in people:
        for index in range(images_per_person):
            _, file_name = _write_face(target.parent, "identities", seed, person, index, size)
            writer.writerow([file_name, person])
    _replace(target, table.getvalue().encode())
    return target


def _checked(people: Iterable[int], images_per_person: int, size: int, seed: int) -> list[int]:
    people = [int(person) for person in people]
    if not people:
        raise ValueError("people is empty: give at least one identity seed, for instance range(30)")
    if min(people) < 0 or len(set(people)) < len(people):
        raise ValueError(f"people must be different identity seeds >= 0, got {people}")
    if images_per_person < 1:
        raise ValueError(f"images_per_person must be at least 1, got {images_per_person}")
    if size < MIN_SIZE:
        raise ValueError(f"size must be at least {MIN_SIZE} pixels, got {size}")
    if seed < 0:
        raise ValueError(f"seed must be >= 0, got {seed}")
    return people


def _cleared(root: Path, name: str) -> Path:
    """The path of the index file; an earlier one is removed, as the pictures it lists are about to be replaced."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / name).unlink(missing_ok=True)
    return root / name


def _write_face(root: Path, prefix: str, seed: int, person: int, index: int, size: int) -> tuple[Face, str]:
    face = render(Identity.from_seed(person), View.from_seed(view_seed(seed, person, index)), size)
    file_name = f"images/{prefix}_{person:05d}_{index:04d}.png"
    _replace(root / file_name, cv2.imencode(".png", face.image[..., ::-1])[1].tobytes())
    return face, file_name


def _annotation(number: int, face: Face, size: int) -> dict[str, object]:
    points = np.column_stack([face.landmarks.round(4), np.full(len(face.landmarks), 2)])
    keypoints = [value for x, y, visibility in points.tolist() for value in (x, y, int(visibility))]
    return {
        "id": number,
        "image_id": number,
        "category_id": _CATEGORY["id"],
        "bbox": [0, 0, size, size],
        "area": size * size,
        "iscrowd": 0,
        "num_keypoints": len(face.landmarks),
        "keypoints": keypoints,
    }


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
