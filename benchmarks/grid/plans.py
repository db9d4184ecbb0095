"""The cells of the grid, the most informative part first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from grid.cell import BATCH, SIZE, STEPS, STRANGERS, Cell
from grid.datasets import FOLDS
from grid.methods import ALPHAS, DOSES, PHOTOGRAPH_DOSES

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
    ("dlib", "none", "FTP"),
    ("imagenet", "none", "FT"),
    ("imagenet", "source", "CTD-ED"),
)
COSTED = (*CORE, ("dlib", "source", "CTD-ED 0.01, photographs"))
LABELS = (20, 10, 50)
COST_STEPS = 100
# (batch, steps) with as many images as in the core, then with as many steps
BATCHES = ((2, 1000), (10, 200), (50, 40), (10, STEPS), (20, STEPS))
REPEATED = ("FT", "CTD-ED", "CTD-ED decayed", "L2-SP")
# an apparent gain, tested again with seeds that had no part in picking it; and what its learning rate does alone
PICKED: Sequence[Compared] = (
    ("dlib", "none", "FT"),
    ("dlib", "source", "L2-SP"),
    ("dlib", "none", "FT at the rate of L2-SP"),
)
PICKED_SEEDS: Mapping[int, Sequence[int]] = {20: (2,), 10: (2, 3, 4)}
"""By the number of labels."""
RETUNED_SEEDS = (2, 3, 4)
# the paper's weight, a random teacher whose term acts, other layers, other cosines, other regularizers
VARIANTS: Sequence[Compared] = (
    ("dlib", "source", "CTD-ED 0.002"),
    ("dlib", "source", "CTD-CD 0.002"),
    ("dlib", "source", "CTD-ED balanced"),
    ("dlib", "random", "CTD-ED balanced"),
    ("dlib", "source", "CTD-ED balanced, earlier layer"),
    ("dlib", "source", "CTD-ED balanced, per location"),
    ("dlib", "source", "CTD-ED balanced, pooled"),
    ("dlib", "source", "AT"),
)
# one network from a source trained here, whose own classifier L_CD can use, and without a source; the paper's Hourglass
SOURCES: Sequence[Compared] = (
    ("lfw", "none", "FT"),
    ("lfw", "source", "CTD-ED"),
    ("lfw", "source", "CTD-CD"),
    ("untrained", "none", "FT"),
    ("scratch", "none", "HG"),
)
# a decoder that reads every stage, as the Hourglass's does, behind a network with a source and one without
DECODERS: Sequence[Compared] = (
    ("dlib-multiscale", "none", "FT"),
    ("dlib-multiscale", "none", "FE"),
    ("untrained-multiscale", "none", "FT"),
)

# what is kept of the source's task, at three doses per constraint
KEPT: Sequence[Compared] = (
    ("dlib", "none", "FT"),
    ("dlib", "random", "CTD-ED 0.002"),
    ("dlib", "none", "LP-FT"),
    *(("dlib", "source", f"{name} {dose:g}") for dose in DOSES for name in ("CTD-ED", "CTD-CD", "LwF", "L2-SP")),
    *(
        ("dlib", "source", f"{name} {dose:g}, photographs")
        for name, doses in PHOTOGRAPH_DOSES.items()
        for dose in doses
    ),
    *(("dlib", "none", f"WiSE-FT {alpha:g}") for alpha in ALPHAS),
    ("dlib", "none", "FE"),
)
# the methods that seemed to keep it, with other people and another decoder, and from another source
KEPT_AGAIN: Sequence[Compared] = (
    ("dlib", "none", "FT"),
    ("dlib", "source", "CTD-ED 0.01, photographs"),
    *(("dlib", "source", f"LwF {dose:g}, photographs") for dose in PHOTOGRAPH_DOSES["LwF"][:2]),
)
KEPT_ELSEWHERE: Sequence[Compared] = (
    *(("lfw", teacher, method) for _, teacher, method in KEPT_AGAIN),
    ("lfw", "none", "FE"),
    *(("lfw", "source", f"{method} 0.01") for method in ("CTD-ED", "L2-SP")),
)
# the same for people who are in none of the photographs
STRANGERS_KEPT: Sequence[Compared] = (
    ("dlib", "none", "FT"),
    ("dlib", "source", "CTD-ED 0.01, photographs"),
    ("dlib", "source", "LwF 0.0001, photographs"),
    ("dlib", "none", "FE"),
)
# how many unlabelled images a term needs, and whether those of the new task are enough
PHOTOGRAPHS = (50, 200, 800)
ON_PHOTOGRAPHS: Sequence[Compared] = tuple(
    ("dlib", "source", f"{method}, photographs") for method in ("CTD-ED 0.01", "LwF 0.0001")
)
ON_PORTRAITS: Sequence[Compared] = tuple(
    ("dlib", "source", f"{method}, portraits") for method in ("CTD-ED 0.01", "LwF 0.0001")
)


def core(dataset: str) -> list[Cell]:
    """Every method of :data:`CORE` for every number of labels and fold; settings are chosen later."""
    return _cells(dataset, CORE, LABELS)


def variants(dataset: str) -> list[Cell]:
    """:data:`VARIANTS` at the number of labels of the tuning."""
    return _cells(dataset, VARIANTS, LABELS[:1])


def cost(dataset: str) -> list[Cell]:
    """Short trainings for their time, three of each of :data:`COSTED` in turn; to be run on an idle machine."""
    cells = [cell for cell in _cells(dataset, COSTED, LABELS[:1]) if cell.fold == 0]
    own = {"steps": COST_STEPS, "setting": {"monitored": 0}}
    return [dataclasses.replace(cell, seed=seed, **own) for seed in range(3) for cell in cells]


def sources(dataset: str) -> list[Cell]:
    """:data:`SOURCES` at the number of labels of the tuning."""
    return _cells(dataset, SOURCES, LABELS[:1])


def decoders(dataset: str) -> list[Cell]:
    """:data:`DECODERS` at the number of labels of the tuning."""
    return _cells(dataset, DECODERS, LABELS[:1])


def larger(dataset: str) -> list[Cell]:
    """FT, and FE with the other decoder, at the number of labels of the tuning, on images of twice the sides."""
    cells = _cells(dataset, (CORE[0], DECODERS[1]), LABELS[:1])
    return [dataclasses.replace(cell, setting={"size": 2 * SIZE}) for cell in cells]


def seeds(dataset: str) -> list[Cell]:
    """The methods closest to FT again at the number of labels of the tuning, with other people and another decoder."""
    cells = _cells(dataset, [each for each in CORE if each[2] in REPEATED and each[0] == "dlib"], LABELS[:1])
    return [dataclasses.replace(cell, seed=1) for cell in cells]


def picked(dataset: str) -> list[Cell]:
    """:data:`PICKED` with few labels, with other people and other decoders than all before."""
    return [
        dataclasses.replace(cell, seed=seed)
        for n_labels, seeds in PICKED_SEEDS.items()
        for seed in seeds
        for cell in _cells(dataset, PICKED, [n_labels])
    ]


def retuned(dataset: str) -> list[Cell]:
    """FT and CTD-ED with the fewest labels, tuned with as many."""
    fewest = min(LABELS)
    cells = _cells(dataset, CORE[:2], [fewest])
    return [dataclasses.replace(cell, seed=seed, setting={"tuned": fewest}) for seed in RETUNED_SEEDS for cell in cells]


def longer(dataset: str) -> list[Cell]:
    """FT and CTD-ED with the most labels, trained three times as long."""
    cells = _cells(dataset, CORE[:2], LABELS[-1:])
    return [dataclasses.replace(cell, steps=3 * STEPS) for cell in cells]


def batches(dataset: str) -> list[Cell]:
    """FT and CTD-ED with the most labels, in the :data:`BATCHES`.

    At the tuned learning rates, and at these times the square root of the ratio of batch sizes.
    """
    cells = _cells(dataset, CORE[:2], LABELS[-1:])
    return [
        dataclasses.replace(cell, steps=steps, setting={"batch": batch, "rate": rate})
        for batch, steps in reversed(BATCHES)
        for rate in (1, round(math.sqrt(batch / BATCH), 3))
        for cell in cells
    ]


def kept(dataset: str) -> list[Cell]:
    """:data:`KEPT` at the number of labels of the tuning; the source's task is tested as well."""
    return [dataclasses.replace(cell, setting={"kept": 1}) for cell in _cells(dataset, KEPT, LABELS[:1])]


def kept_decoders(dataset: str) -> list[Cell]:
    """The same with the other decoder."""
    return [dataclasses.replace(cell, setting={"kept": 1}) for cell in _cells(dataset, DECODERS[:2], LABELS[:1])]


def kept_again(dataset: str) -> list[Cell]:
    """:data:`KEPT_ELSEWHERE`, and :data:`KEPT_AGAIN` with another seed."""
    again = [dataclasses.replace(cell, seed=1) for cell in _cells(dataset, KEPT_AGAIN, LABELS[:1])]
    cells = [*_cells(dataset, KEPT_ELSEWHERE, LABELS[:1]), *again]
    return sorted((dataclasses.replace(cell, setting={"kept": 1}) for cell in cells), key=lambda cell: cell.fold)


def strangers(dataset: str) -> list[Cell]:
    """:data:`STRANGERS_KEPT`; the source's task is tested on people whom no term has seen."""
    setting = {"kept": STRANGERS}
    return [dataclasses.replace(cell, setting=setting) for cell in _cells(dataset, STRANGERS_KEPT, LABELS[:1])]


def unlabelled(dataset: str) -> list[Cell]:
    """:data:`ON_PORTRAITS`, and :data:`ON_PHOTOGRAPHS` with each number of :data:`PHOTOGRAPHS`."""
    settings = [({"kept": 1}, ON_PORTRAITS)]
    settings += [({"kept": 1, "photographs": count}, ON_PHOTOGRAPHS) for count in PHOTOGRAPHS]
    cells = [
        dataclasses.replace(cell, setting=setting)
        for setting, compared in settings
        for cell in _cells(dataset, compared, LABELS[:1])
    ]
    return sorted(cells, key=lambda cell: cell.fold)


def repeat(dataset: str) -> list[Cell]:
    """FT of the core again, to be run on another machine with another folder of results."""
    return _cells(dataset, CORE[:1], LABELS[:1])


def _cells(dataset: str, compared: Sequence[Compared], labels: Sequence[int]) -> list[Cell]:
    return [
        Cell(dataset, source, teacher, method, n_labels, fold)
        for n_labels in labels
        for fold in range(FOLDS)
        for source, teacher, method in compared
    ]


PLANS = {
    **{"core": core, "variants": variants, "seeds": seeds, "longer": longer, "batches": batches},
    **{"cost": cost, "sources": sources, "kept": kept, "strangers": strangers, "repeat": repeat},
    **{"unlabelled": unlabelled, "picked": picked, "retuned": retuned, "kept-again": kept_again},
    **{"decoders": decoders, "larger": larger, "kept-decoders": kept_decoders},
}
