"""The images of lfw158 with their identities, and features of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xtask_reg.sources.classification import read_identities


@dataclass(frozen=True)
class Identities:
    """Images of known people.

    Attributes:
        images: RGB from 0 to 255, shape ``(N, 3, H, W)``.
        labels: the person in each, shape ``(N,)``.
        held_out: whether no classifier of the grid saw the image, shape ``(N,)``.
        people: their names, by label.
        files: the image files.
    """

    images: Tensor
    labels: Tensor
    held_out: Tensor
    people: Sequence[str]
    files: Sequence[Path]


def read(data_root: Path) -> Identities:
    """Read ``lfw158/identities.csv`` and its images."""
    table = data_root / "lfw158" / "identities.csv"
    images, labels, people = read_identities(table)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    held_out = torch.tensor([row["split"] == "test" for row in rows])
    return Identities(images, labels, held_out, people, [table.parent / row["file"] for row in rows])


def strangers(known: Identities) -> Tensor:
    """Whether each image shows a stranger, as every other person is, shape ``(N,)``."""
    return known.labels % 2 == 0


def seen(data_root: Path, fold: int, count: int | None = None, without_strangers: bool = False) -> list[Path]:
    """The images that are not held out; or a random ``count`` of them, where fewer are a subset of more."""
    known = read(data_root)
    wanted = ~known.held_out & ~strangers(known) if without_strangers else ~known.held_out
    files = [file for file, is_wanted in zip(known.files, wanted.tolist(), strict=True) if is_wanted]
    order = np.random.default_rng(fold).permutation(len(files))
    return [files[index] for index in order[:count]]


@torch.no_grad()
def pooled(encoder: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Averages ``(N, C)`` of the encoder's feature maps for images ``(N, 3, H, W)`` from 0 to 255."""
    return torch.cat([encoder(batch.float()).mean((2, 3)) for batch in images.split(64)])
