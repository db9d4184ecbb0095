"""Writes sets of faces with part masks to disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import cv2

from xtask_reg.data.synthetic.parts import PART_NAMES
from xtask_reg.data.synthetic.pictures import checked_people, index_of_split, write_face
from xtask_reg.whole_file import replace_file


def write_segmentation_set(
    root: str | Path, people: Iterable[int], images_per_person: int, size: int, seed: int = 0, split: str = "train"
) -> Path:
    """Write ``root/images/{split}_*.png``, ``root/masks/{split}_*.png``, then ``root/{split}.json``, which is returned.

    A mask is a grey PNG whose values are the labels, with no palette, since OpenCV would read colours for labels. The
    JSON has the names of the ``classes`` in the order of their labels (``PART_NAMES``), and ``images`` with
    ``file_name`` and ``mask`` (relative to ``root``), ``width``, ``height`` and ``identity`` (the person's seed).

    Arguments, determinism and errors are those of :func:`write_landmark_set`, and so are the pictures.
    """
    people = checked_people(people, images_per_person, size, seed)
    target = index_of_split(Path(root), split)
    (target.parent / "masks").mkdir(exist_ok=True)
    images: list[dict[str, object]] = []
    for person in people:
        for index in range(images_per_person):
            face, file_name = write_face(target.parent, split, seed, person, index, size)
            mask = f"masks/{Path(file_name).name}"
            replace_file(target.parent / mask, cv2.imencode(".png", face.mask)[1].tobytes())
            entry = {"id": len(images) + 1, "file_name": file_name, "mask": mask, "width": size, "height": size}
            images.append({**entry, "identity": person})
    content = {"info": {"description": "synthetic faces", "seed": seed}, "classes": PART_NAMES, "images": images}
    replace_file(target, json.dumps(content, indent=1).encode())
    return target
