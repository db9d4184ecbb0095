"""The images of lfw158 as the face sources see them: who is in each, and the features that an encoder gives it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from xtask_reg.sources.classification import read_identities


@dataclass(frozen=True)
class Identities:
    """Images of known people.

    Attributes:
        images: RGB from 0 to 255, shape ``(N, 3, H, W)``.
        labels: who is in each, shape ``(N,)``.
        held_out: whether no classifier of the grid saw the image, shape ``(N,)``.
        people: their names, by label.
    """

    images: Tensor
    labels: Tensor
    held_out: Tensor
    people: Sequence[str]


def read(data_root: Path) -> Identities:
    """Read ``lfw158/identities.csv`` and its images."""
    table = data_root / "lfw158" / "identities.csv"
    images, labels, people = read_identities(table)
    with table.open(newline="") as file:
        held_out = torch.tensor([row["split"] == "test" for row in csv.DictReader(file)])
    return Identities(images, labels, held_out, people)


def link_seen(data_root: Path, folder: Path) -> None:
    """Make a folder of links to the images that are not held out."""
    folder.mkdir()
    place = data_root / "lfw158"
    with (place / "identities.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] != "test":
                (folder / Path(row["file"]).name).symlink_to((place / row["file"]).absolute())


@torch.no_grad()
def pooled(encoder: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Averaged features ``(N, C)`` of images ``(N, 3, H, W)`` from 0 to 255, of which the encoder makes maps."""
    return torch.cat([encoder(batch.float()).mean((2, 3)) for batch in images.split(64)])
