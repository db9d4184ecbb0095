"""Writes the pictures of a set of faces: what the sets of all kinds share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from xtask_reg.data.synthetic.identity import Identity
from xtask_reg.data.synthetic.render import MIN_SIZE, Face, render
from xtask_reg.data.synthetic.view import View
from xtask_reg.whole_file import replace_file


def view_seed(seed: int, person: int, index: int) -> int:
    """The seed of the view in picture ``index`` of ``person`` in the set ``seed``; no other picture influences it."""
    return int(np.random.SeedSequence((seed, person, index)).generate_state(1, np.uint64)[0])


def checked_people(people: Iterable[int], images_per_person: int, size: int, seed: int) -> list[int]:
    """The people as a list; raises ``ValueError`` for invalid arguments of a set."""
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


def index_of_split(root: Path, split: str) -> Path:
    """The path of the cleared index file of a split."""
    if not split or Path(split).name != split:
        raise ValueError(f"split must be a plain name such as 'train', got {split!r}")
    return cleared(root, f"{split}.json")


def cleared(root: Path, name: str) -> Path:
    """The path of the index file; an old one is removed, since the pictures that it lists will be replaced."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / name).unlink(missing_ok=True)
    return root / name


def write_face(root: Path, prefix: str, seed: int, person: int, index: int, size: int) -> tuple[Face, str]:
    """Draw a face and write its picture; the face, and the file's path relative to ``root``."""
    face = render(Identity.from_seed(person), View.from_seed(view_seed(seed, person, index)), size)
    file_name = f"images/{prefix}_{person:05d}_{index:04d}.png"
    replace_file(root / file_name, cv2.imencode(".png", face.image[..., ::-1])[1].tobytes())
    return face, file_name
