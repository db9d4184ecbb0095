"""Faces with part masks, and the images with identities from which a source network learns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xtask_reg.data import synthetic
from xtask_reg.data.images import read_image
from xtask_reg.data.synthetic import write_segmentation_set
from xtask_reg.sources.classification import read_identities

FRL_CLASSES = ("background", "face", "outline", "brows", "eyes", "nose", "lips", "mouth")
"""Names of the labels in the FRL masks; "outline" is between the face and the outermost contour of the template."""
PEOPLE = {"train": range(1000, 1024), "test": range(3000, 3060)}
SOURCE_PEOPLE, SOURCE_IMAGES = 30, 16
HELD_OUT = 5


@dataclass(frozen=True)
class Faces:
    """N images of one size with their masks.

    Attributes:
        names: the image files.
        images: ``(N, 3, S, S)`` uint8, RGB.
        masks: ``(N, S, S)`` int64 labels.
    """

    names: list[str]
    images: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Identities:
    """Images ``(N, 3, S, S)`` uint8 and labels ``(N,)`` of a recognition task, and which images are held out."""

    images: Tensor
    labels: Tensor
    held_out: Tensor


@dataclass(frozen=True)
class Case:
    """The data on which the methods are compared."""

    classes: Sequence[str]
    train: Faces
    test: Faces
    identities: Identities


def synthetic_case(folder: Path, size: int) -> Case:
    """Synthetic faces, written below ``folder``; nobody is in two of the sets."""
    files = {split: write_segmentation_set(folder, people, 1, size, split=split) for split, people in PEOPLE.items()}
    table = synthetic.write_identity_set(folder / "identities", range(SOURCE_PEOPLE), SOURCE_IMAGES, size)
    classes, labels = without_sides(synthetic.PART_NAMES)
    faces = {split: read_faces(file, size, labels) for split, file in files.items()}
    return Case(classes, faces["train"], faces["test"], read_source(table, size))


def frl_case(data_root: Path, size: int) -> Case:
    """The Face Research Lab faces, and a source task on people of Labeled Faces in the Wild."""
    labels = np.arange(len(FRL_CLASSES), dtype=np.uint8)
    faces = {split: read_faces(data_root / "frl" / f"{split}.json", size, labels) for split in ("train", "test")}
    source = read_source(data_root / "lfw158" / "identities.csv", size)
    return Case(FRL_CLASSES, faces["train"], faces["test"], source)


def read_faces(index: Path, size: int, labels: np.ndarray) -> Faces:
    """The images that a JSON file lists, each with the mask of the same name in ``masks/``, scaled to ``size``.

    ``labels`` maps each label in the files to the label here.
    """
    names = [image["file_name"] for image in json.loads(index.read_text())["images"]]
    images = [cv2.resize(read_image(index.parent / name), (size, size), interpolation=cv2.INTER_AREA) for name in names]
    masks = [_read_mask(index.parent / "masks" / f"{Path(name).stem}.png", size, len(labels)) for name in names]
    rgb = np.stack(images)[..., ::-1].transpose(0, 3, 1, 2)
    return Faces(names, torch.from_numpy(rgb.copy()), torch.from_numpy(labels[np.stack(masks)]).long())


def _read_mask(path: Path, size: int, labels: int) -> np.ndarray:
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.ndim != 2:
        raise ValueError(f"{path} is missing or no grey PNG of labels")
    if mask.max() >= labels:
        raise ValueError(f"{path} has the label {mask.max()}; expected 0 to {labels - 1}, one a class")
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)


def read_source(table: Path, size: int) -> Identities:
    """Images of people, scaled to ``size``; every fifth is held out."""
    images, labels, _ = read_identities(table)
    if images.shape[2:] != (size, size):
        scaled = [F.interpolate(part.float(), size, mode="bilinear", antialias=True) for part in images.split(256)]
        images = torch.cat([part.round().clamp(0, 255).byte() for part in scaled])
    return Identities(images, labels, torch.arange(len(images)) % HELD_OUT == 0)


def without_sides(classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The classes with left and right merged, and the new label of each old one.

    A mirrored picture then keeps its labels.
    """
    plain = [name.removeprefix("left_").removeprefix("right_") for name in classes]
    names = list(dict.fromkeys(plain))
    return names, np.array([names.index(name) for name in plain], np.uint8)
