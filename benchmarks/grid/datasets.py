"""Landmark sets of the grid, split by person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grid.cell import Cell

FOLDS = 5


@dataclass(frozen=True)
class LandmarkSet:
    """A folder with COCO-style files of which each image shows another person.

    Attributes:
        folder: relative to the data root.
        files: the annotation files in it that are put together.
        subset: the landmarks, a name in the folder's ``subsets.json``.
        landmarks: how many these are.
    """

    folder: str
    files: Sequence[str]
    subset: str
    landmarks: int


FRL_FILES = ("train.json", "val.json", "test.json")
DATASETS = {
    "frl14": LandmarkSet("frl", FRL_FILES, "pfl_philtrum_lip14", 14),
    "frl24": LandmarkSet("frl", FRL_FILES, "anat24", 24),
}


def read_people(root: Path, files: Sequence[str]) -> dict[str, Any]:
    """All annotation files as one COCO dictionary, its images in the order of their names and numbered anew.

    Raises:
        ValueError: if an image does not have exactly one annotation.
    """
    rows, categories = [], []
    for file in files:
        content = json.loads((root / file).read_text())
        categories = content["categories"]
        of_image = {annotation["image_id"]: annotation for annotation in content["annotations"]}
        if not len(of_image) == len(content["annotations"]) == len(content["images"]):
            raise ValueError(f"{root / file}: {len(content['annotations'])} faces in {len(content['images'])} images")
        rows += [(image, of_image[image["id"]]) for image in content["images"]]
    rows.sort(key=lambda row: row[0]["file_name"])
    images = [{**image, "id": number} for number, (image, _) in enumerate(rows)]
    annotations = [{**each, "id": number, "image_id": number} for number, (_, each) in enumerate(rows)]
    return {"images": images, "annotations": annotations, "categories": categories}


def folds(people: int) -> list[np.ndarray]:
    """The people by number in :data:`FOLDS` parts of nearly the same size, always the same ones."""
    return [np.sort(part) for part in np.array_split(np.random.default_rng(0).permutation(people), FOLDS)]


def people_of(cell: Cell, people: int) -> tuple[np.ndarray, np.ndarray]:
    """Who is trained on and who is tested; with fewer labels a part of those with more.

    Raises:
        ValueError: if there are not so many people to train on.
    """
    fold = folds(people)[cell.fold]
    others = np.setdiff1d(np.arange(people), fold)
    train, test = (fold, others) if cell.split == "tuning" else (others, fold)
    if cell.n_labels > len(train):
        raise ValueError(f"n_labels={cell.n_labels}, but {cell.dataset} has {len(train)} people to train on")
    return np.random.default_rng([cell.seed, cell.fold]).permutation(train)[: cell.n_labels], test


def write_people(content: dict[str, Any], people: np.ndarray, file: Path) -> None:
    """An annotation file of some people."""
    chosen = {key: [content[key][person] for person in people] for key in ("images", "annotations")}
    file.write_text(json.dumps({**content, **chosen}))


def images_of_folds(data_root: Path, dataset: str) -> list[set[str]]:
    """The names of the images of each fold."""
    landmarks = DATASETS[dataset]
    images = read_people(data_root / landmarks.folder, landmarks.files)["images"]
    return [{Path(images[person]["file_name"]).stem for person in fold} for fold in folds(len(images))]
