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
    """A folder with COCO-style files in which each image shows another person.

    Attributes:
        folder: relative to the data root, or for synthetic faces to the folder of prepared files.
        files: the annotation files to join.
        landmarks: their number.
        subset: their name in the folder's ``subsets.json``; None for all.
        drawn: the number of synthetic people to draw; 0 for real ones.
        tested: the maximum number of test people.
    """

    folder: str
    files: Sequence[str]
    landmarks: int
    subset: str | None = None
    drawn: int = 0
    tested: int | None = None


FRL_FILES = ("train.json", "val.json", "test.json")
DATASETS = {
    "frl14": LandmarkSet("frl", FRL_FILES, 14, "pfl_philtrum_lip14"),
    "frl24": LandmarkSet("frl", FRL_FILES, 24, "anat24"),
    "synthetic": LandmarkSet("synthetic", ["faces.json"], 14, drawn=3000, tested=150),
}


def read_people(root: Path, files: Sequence[str]) -> dict[str, Any]:
    """All annotation files as one COCO dictionary, with images sorted by name and renumbered.

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
    """The indices of people in :data:`FOLDS` parts of nearly equal size, always the same."""
    return [np.sort(part) for part in np.array_split(np.random.default_rng(0).permutation(people), FOLDS)]


def people_of(cell: Cell, people: int) -> tuple[np.ndarray, np.ndarray]:
    """The training and test people of a cell; those for fewer labels are a subset of those for more.

    Raises:
        ValueError: if there are not enough people to train on.
    """
    fold = folds(people)[cell.fold]
    others = np.setdiff1d(np.arange(people), fold)
    train, test = (fold, others) if cell.split == "tuning" else (others, fold)
    if cell.n_labels > len(train):
        raise ValueError(f"n_labels={cell.n_labels}, but {cell.dataset} has {len(train)} people to train on")
    chosen = np.random.default_rng([cell.seed, cell.fold]).permutation(train)[: cell.n_labels]
    return chosen, test[: DATASETS[cell.dataset].tested]


def portraits_without_labels(cell: Cell, content: dict[str, Any], root: Path) -> list[Path]:
    """The images of people outside the fold who are not labelled in this cell."""
    files = [root / image["file_name"] for image in content["images"]]
    labelled, _ = people_of(cell, len(files))
    taken = {*labelled, *folds(len(files))[cell.fold]}
    return [file for person, file in enumerate(files) if person not in taken]


def write_people(content: dict[str, Any], people: np.ndarray, file: Path) -> None:
    """Write an annotation file of some people."""
    chosen = {key: [content[key][person] for person in people] for key in ("images", "annotations")}
    file.write_text(json.dumps({**content, **chosen}))


def images_of_folds(root: Path, files: Sequence[str]) -> list[set[str]]:
    """The names of the images of each fold."""
    images = read_people(root, files)["images"]
    return [{Path(images[person]["file_name"]).stem for person in fold} for fold in folds(len(images))]
