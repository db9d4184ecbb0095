"""Writes the landmarks that a network found: a CSV table, and COCO-style JSON."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xtask_reg.landmarks.coco_annotation import coco_annotation
from xtask_reg.landmarks.distances import Pair, distances
from xtask_reg.landmarks.faces import LandmarkedFace

Faces = Sequence[LandmarkedFace]
BOX = ("left", "top", "width", "height")


def check_image_names(images: Iterable[Path], beside: Path) -> None:
    """Raise ``ValueError`` for an image whose path cannot be written in UTF-8, as old names in another encoding."""
    for image in images:
        name = _name(image, beside)
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the name of the image {name!a} is not in UTF-8; rename it") from None


def write_csv(path: Path, faces: Faces, names: Sequence[str], beside: Path) -> None:
    """Write a line per face: its file, its box, and for each landmark ``NAME_x``, ``NAME_y`` and ``NAME_confidence``.

    ``xtask-reg convert-landmarks`` can read it if each image has one face.

    Args:
        path: the file to write.
        faces: the faces with their landmarks.
        names: of the landmarks.
        beside: the folder that image paths are written relative to.
    """
    columns = [f"{name}_{part}" for name in names for part in ("x", "y", "confidence")]
    lines = [np.column_stack([face.points, face.confidence]).flatten() for face in faces]
    _write_table(path, columns, faces, lines, beside)


def write_distances(
    path: Path, faces: Faces, names: Sequence[str], pairs: Mapping[str, Pair], scale: float | None, beside: Path
) -> None:
    """Write a line per face: file, box, and the distances ``NAME_px``, or ``NAME_mm`` with a scale in mm per pixel."""
    unit = "px" if scale is None else "mm"
    lines = [np.array([*distances(face.points, names, pairs, scale or 1.0).values()]) for face in faces]
    _write_table(path, [f"{name}_{unit}" for name in pairs], faces, lines, beside)


def _write_table(path: Path, columns: Sequence[str], faces: Faces, lines: Sequence[np.ndarray], beside: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", *BOX, *columns])
        for face, numbers in zip(faces, lines, strict=True):
            box, found = (f"{side:g}" for side in face.box), (f"{n:.4f}" for n in numbers)
            table.writerow([_name(face.image, beside), *box, *found])


def write_coco(path: Path, faces: Faces, names: Sequence[str], flip: Sequence[int], beside: Path) -> None:
    """Write a COCO-style landmark file with the extra fields ``keypoint_scores`` and ``score``, their mean.

    Args:
        path: the file to write.
        faces: the faces with their landmarks; all get visibility 2.
        names: of the landmarks.
        flip: for each landmark the index of its mirror image.
        beside: the folder that image paths are written relative to.
    """
    ids = {file: number for number, file in enumerate(dict.fromkeys(face.image for face in faces), start=1)}
    images = {
        ids[face.image]: {
            "id": ids[face.image],
            "file_name": _name(face.image, beside),
            "width": face.size[0],
            "height": face.size[1],
        }
        for face in faces
    }
    annotations = [_annotation(number, ids[face.image], face) for number, face in enumerate(faces, start=1)]
    category = {"id": 1, "name": "face", "keypoints": list(names), "flip_index": list(flip)}
    content = {"images": list(images.values()), "annotations": annotations, "categories": [category]}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _annotation(number: int, image: int, face: LandmarkedFace) -> dict[str, Any]:
    return {
        **coco_annotation(number, image, face.box, face.points, np.full(len(face.points), 2)),
        "keypoint_scores": [round(float(score), 6) for score in face.confidence],
        "score": round(float(face.confidence.mean()), 6),
    }


def _name(image: Path, beside: Path) -> str:
    """The image's relative path, valid even if folders are links: ``..`` is then the parent of the link's target."""
    image = image.parent.resolve() / image.name
    return Path(os.path.relpath(image, beside.resolve())).as_posix()
