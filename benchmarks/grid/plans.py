"""What the grid consists of, the most informative part first."""

from __future__ import annotations

from collections.abc import Sequence

from grid.cell import Cell
from grid.datasets import FOLDS

Compared = tuple[str, str, str]
"""Source, teacher and method."""

CORE: Sequence[Compared] = (
    ("dlib", "none", "FT"),
    ("dlib", "source", "CTD-ED"),
    ("dlib", "source", "CTD-ED decayed"),
    ("dlib", "random", "CTD-ED"),
    ("dlib", "source", "CTD-CD"),
    ("dlib", "source", "CTD-Com"),
    ("dlib", "source", "L2-SP"),
    ("dlib", "none", "LP-FT"),
    ("dlib", "none", "FE"),
    ("imagenet", "none", "FT"),
    ("imagenet", "source", "CTD-ED"),
)
LABELS = (20, 10, 50)


def core(dataset: str = "frl14") -> list[Cell]:
    """Every method of :data:`CORE` with every number of labels and fold; the settings are not chosen yet."""
    return [
        Cell(dataset, source, teacher, method, n_labels, fold)
        for n_labels in LABELS
        for fold in range(FOLDS)
        for source, teacher, method in CORE
    ]
