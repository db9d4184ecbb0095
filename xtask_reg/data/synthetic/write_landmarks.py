"""Writes sets of faces with landmarks to disk, as COCO-style JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from xtask_reg.data.synthetic.landmarks import FLIP_INDEX, LANDMARK_NAMES, SKELETON
from xtask_reg.data.synthetic.pictures import checked_people, index_of_split, write_face
from xtask_reg.landmarks.coco_annotation import coco_annotation
from xtask_reg.whole_file import replace_file

_CATEGORY = {
    "id": 1,
    "name": "face",
    "supercategory": "face",
    "keypoints": list(LANDMARK_NAMES),
    "skeleton": [[a + 1, b + 1] for a, b in SKELETON],
    "flip_index": list(FLIP_INDEX),
}


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
    people = checked_people(people, images_per_person, size, seed)
    target = index_of_split(Path(root), split)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    visible = np.full(len(LANDMARK_NAMES), 2)
    for person in people:
        for index in range(images_per_person):
            face, file_name = write_face(target.parent, split, seed, person, index, size)
            number = len(images) + 1
            images.append({"id": number, "file_name": file_name, "width": size, "height": size, "identity": person})
            annotations.append(coco_annotation(number, number, (0, 0, size, size), face.landmarks, visible))
    info = {"description": "synthetic faces", "seed": seed, "coordinates": "pixels, integer = pixel centre"}
    content = {"info": info, "images": images, "annotations": annotations, "categories": [_CATEGORY]}
    replace_file(target, json.dumps(content, indent=1).encode())
    return target
