"""The folders of the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grid.datasets import DATASETS


@dataclass(frozen=True)
class Places:
    """Folders on the machine that a cell runs on.

    Attributes:
        data_root: contains ``frl/``, ``lfw158/`` and ``sources/``.
        prepared: the output of ``few_labels.py prepare``.
    """

    data_root: Path
    prepared: Path

    def landmarks(self, dataset: str) -> Path:
        """The folder of a landmark set."""
        landmarks = DATASETS[dataset]
        return (self.prepared if landmarks.drawn else self.data_root) / landmarks.folder
