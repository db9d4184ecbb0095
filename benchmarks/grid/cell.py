"""One training of the grid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

KEYS = ("split", "dataset", "source", "teacher", "method", "n_labels", "seed", "fold", "steps", "setting")
STEPS, BATCH, SIZE = 400, 5, 128
TUNED = 20
"""The number of labels with which methods are tuned, unless a cell has another."""
STRANGERS = 2
"""Value of ``kept`` for a cell whose terms see no photograph of the people on whom the source's task is tested."""


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        dataset: a name in :data:`grid.datasets.DATASETS`.
        source: the network that the student starts from, a name in :data:`grid.sources.SOURCES`.
        teacher: ``'none'``, ``'source'``, or ``'random'``: a network of the same shape that was never trained.
        method: a name in :data:`grid.methods.METHODS`.
        n_labels: labelled training images.
        fold: of the people.
        seed: of the decoder, the chosen people, the batches and the augmentations.
        steps: training steps; the same for everything that is compared.
        setting: learning rate, weight and other options of the method; ``batch``, images per step if not :data:`BATCH`;
            ``rate``, a factor of all learning rates; ``monitored``, 0 to measure only the error at the end; ``kept``, 1
            to test the source's task too at the end, or :data:`STRANGERS`; ``photographs``, their number for the terms,
            if not all; ``tuned``, the labels of the tuning if not :data:`TUNED`; ``size``, of the images in pixels if
            not :data:`SIZE`.
        split: ``'test'`` trains on people outside the fold and tests on the fold. ``'tuning'`` trains on people of
            the fold and tests on all others; the choice of settings then ignores those whom it must not see.
    """

    dataset: str
    source: str
    teacher: str
    method: str
    n_labels: int
    fold: int
    seed: int = 0
    steps: int = STEPS
    setting: Mapping[str, float] = field(default_factory=dict)
    split: str = "test"

    @property
    def identity(self) -> str:
        """A text that is the same for equal cells."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def folder(self) -> str:
        """The name of its folder."""
        setting = "_".join(f"{key}{value:g}" for key, value in self.setting.items())
        parts = (
            self.split,
            self.dataset,
            self.source,
            self.teacher,
            self.method,
            self.n_labels,
            self.fold,
            self.seed,
            self.steps,
        )
        return "-".join(map(str, (*parts, setting))).lower()


def cell_of(line: Mapping[str, Any]) -> Cell:
    """The cell of a result line."""
    return Cell(**{key: line[key] for key in KEYS})
