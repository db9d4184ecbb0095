"""Tables and figures of the pages about the grid, and README's table, from the result files of few_labels.py alone.

python benchmarks/few_labels_report.py
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from grid import figures, plans, report
from grid.cell import BATCH, SIZE, STEPS, STRANGERS, TUNED
from grid.kept_report import draw_kept, kept_table, strangers_table
from grid.results import Results
from grid.sources import SOURCES
from marked_page import fill
from matplotlib.figure import Figure

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"
DOCS, README = REPOSITORY / "docs", REPOSITORY / "README.md"
SHOWN = ("FT", "CTD-ED", "CTD-ED decayed", "CTD-CD", "CTD-Com", "L2-SP", "LP-FT", "FE", "FT, imagenet")
SUMMED_UP = ("FT", "CTD-CD", "CTD-ED", "CTD-Com", "CTD-ED decayed", "CTD-ED, random teacher", "L2-SP", "FE")
FEWEST, MIDDLE, MOST = sorted(plans.LABELS)
BATCHES: Mapping[str, Collection[Any]] = {
    **{"label": ["FT", "CTD-ED"], "n_labels": [MOST]},
    "steps": {STEPS, *(steps for _, steps in plans.BATCHES)},
}
"""The trainings that differ only in their batch."""
PAIRS = (
    ("CTD-ED", "CTD-ED, random teacher"),
    ("L2-SP", "CTD-ED decayed"),
    ("CTD-ED balanced", "CTD-ED balanced, random teacher"),
    ("CTD-ED balanced, per location", "CTD-ED balanced"),
    ("CTD-ED balanced, pooled", "CTD-ED balanced"),
    ("FT, lfw", "FT, untrained"),
)
"""Comparisons other than with FT."""
DECODER_PAIRS = (
    ("FE, dlib-multiscale", "FT, dlib-multiscale"),
    ("FT, dlib-multiscale", "HG, scratch"),
    ("FT, untrained-multiscale", "FT, untrained"),
    ("FT, dlib-multiscale", "FT, untrained-multiscale"),
)
"""What another decoder does with each source, and what the source does with it."""
USUAL: Mapping[str, Collection[Any]] = {
    "steps": [STEPS],
    "batch": [BATCH],
    "size": [SIZE],
    "kept": [0],
    "tuned": [TUNED],
}
FIRST: Mapping[str, Collection[Any]] = {"source": ["dlib"], "seed": [0], "kept": [1]}
KEPT: Mapping[str, Collection[Any]] = {
    "method": {method for *_, method in plans.KEPT},
    "photographs": [None],
    **FIRST,
}
"""The trainings after which the source's task was tested; terms on photographs have all of them."""
KEPT_AGAIN: Mapping[str, Collection[Any]] = {**FIRST, "seed": [1]}
KEPT_TWICE: Mapping[str, Collection[Any]] = {
    **KEPT,
    "method": {method for *_, method in plans.KEPT_AGAIN},
    "seed": [0, 1],
}
KEPT_ELSEWHERE: Mapping[str, Collection[Any]] = {**FIRST, "source": ["lfw"]}
"""The same with other labelled people, with these and the first together, and from another source."""
KEPT_DECODERS: Mapping[str, Collection[Any]] = {**FIRST, "method": ["FT", "FE"], "source": ["dlib", "dlib-multiscale"]}
KEPT_DRAWN: Mapping[str, Collection[Any]] = {**KEPT, "source": ["dlib", "dlib-multiscale"]}
UNLABELLED: Mapping[str, Collection[Any]] = {
    "method": {"FT", "FE", *(method for *_, method in (*plans.ON_PHOTOGRAPHS, *plans.ON_PORTRAITS))},
    **FIRST,
}
"""The trainings that differ in their unlabelled images."""
PICKED: Mapping[str, Collection[Any]] = {
    "method": {method for *_, method in plans.PICKED},
    "source": ["dlib"],
    "seed": {1}.union(*plans.PICKED_SEEDS.values()),
    **USUAL,
}
"""The trainings that repeat a picked result, with seeds that had no part in picking it."""
RATE_PAIRS = [("L2-SP", "FT at the rate of L2-SP"), ("FT at the rate of L2-SP", "FT")]
"""What L2-SP gains at its learning rate, and what the rate gains without it."""
PARTS: Mapping[str, Mapping[str, Collection[Any]]] = {
    "grid": {
        "method": {method for *_, method in (*plans.CORE, *plans.SOURCES)},
        "source": {source for source, *_ in (*plans.CORE, *plans.SOURCES)},
        "seed": [0],
        **USUAL,
    },
    "decoders": {
        "method": ["FT", "FE", "HG"],
        "source": ["dlib", "untrained", "dlib-multiscale", "untrained-multiscale", "scratch"],
        "n_labels": [MIDDLE],
        "seed": [0],
        **USUAL,
    },
    "larger": {"source": ["dlib", "dlib-multiscale"], "seed": [0], **USUAL, "size": [2 * SIZE]},
    "variants": {
        "method": {method for *_, method in plans.VARIANTS},
        "source": ["dlib"],
        "n_labels": [MIDDLE],
        "seed": [0],
        **USUAL,
    },
    "seeds": {"method": plans.REPEATED, "source": ["dlib"], "n_labels": [MIDDLE], "seed": [0, 1], **USUAL},
    "retuned": {"n_labels": [FEWEST], "seed": plans.RETUNED_SEEDS, "tuned": [FEWEST]},
    "longer": {"method": SHOWN, "n_labels": [MOST], "steps": [3 * STEPS]},
}
"""The results that each part of the page shows, as a table and a figure; by the name of its mark."""


class Measured:
    """The results of one landmark set.

    Args:
        folder: the folder of the result files.
        dataset: the name of the set.
    """

    def __init__(self, folder: Path, dataset: str) -> None:
        self._results, self._dataset = Results(folder / "few_labels.jsonl"), {"dataset": [dataset]}
        self._tuning = Results(folder / "few_labels_tuning.jsonl")
        self._again = Results(folder / "few_labels_repeat.jsonl")
        self.time = report.times(self.lines(steps=[plans.COST_STEPS]))
        self.kept, self.strangers = self.lines(**KEPT), self.lines(kept=[STRANGERS])

    def lines(self, **wanted: Collection[Any]) -> pd.DataFrame:
        """One row per cell: :func:`grid.report.lines`."""
        return report.lines(self._results, **self._dataset, **wanted)

    def images(self, **wanted: Collection[Any]) -> pd.DataFrame:
        """One row for each test image of each cell: :func:`grid.report.images`."""
        return report.images(self._results, **self._dataset, **wanted)

    def parts(self) -> list[str]:
        """The parts with something to compare."""
        return [part for part, wanted in PARTS.items() if _is_there(self.lines(**wanted), wanted)]

    def differences(self, part: str) -> dict[tuple[str, int], report.Comparison]:
        """The methods of a part compared with plain fine-tuning, on the same processor if possible."""
        usual = all(PARTS[part].get(key) == value for key, value in USUAL.items())
        elsewhere = report.images(self._again, **self._dataset) if self._again.lines and usual else None
        return report.differences(self.images(**PARTS[part]), elsewhere)

    def tables(self) -> dict[str, dict[str, str]]:
        """The tables by their pages, and by the names of their marks."""
        return {"results.md": self._compared(), "kept.md": self._kept(), "tuning.md": self._tuned()}

    def summary(self) -> dict[str, str]:
        """README's table, by the name of its mark."""
        return {"results": report.short_table(self.images(**PARTS["grid"]), self.differences("grid"), SUMMED_UP)}

    def figures(self) -> dict[str, Figure]:
        """The figures by name."""
        lines, rows = self.lines(**PARTS["grid"]), self.images(**PARTS["grid"])
        shown = [name for name in SHOWN if name in set(rows.label)]
        return {
            **{
                part: figures.forest(found, 2 * figures.LIMIT if part == "decoders" else figures.LIMIT)
                for part in self.parts()
                if len(found := self.differences(part)) > 1
            },
            "labels": figures.error_by_labels(rows, shown),
            "curves": figures.curves(lines, shown),
            **({"kept": self._drawn()} if self.kept.size else {}),
            **({"cost": figures.cost(self.differences("grid"), self.time)} if self.time else {}),
            **{f"ced_{count}": figures.ced(own, shown) for count, own in rows.groupby("n_labels")},
        }

    def _drawn(self) -> Figure:
        return draw_kept(self.lines(**KEPT_DRAWN), report.differences(self.images(**KEPT_DRAWN)))

    def _compared(self) -> dict[str, str]:
        tables = {
            part: report.main_table(
                self.images(**PARTS[part]), self.lines(**PARTS[part]), self.differences(part), self.time
            )
            for part in self.parts()
        }
        if {label for pair in PAIRS for label in pair} <= {*self.lines(seed=[0], **USUAL).label}:
            tables["pairs"] = report.pair_table(self.images(seed=[0], **USUAL), PAIRS)
        if "decoders" in tables:
            tables["decoder_pairs"] = report.pair_table(self.images(**PARTS["decoders"]), DECODER_PAIRS)
        if self.lines(**PICKED).size:
            tables["picked"] = report.pair_table(self.images(**PICKED), [("L2-SP", "FT")])
            tables["rate"] = report.pair_table(self.images(**PICKED), RATE_PAIRS)
        if self.lines(**BATCHES).get("batch", pd.Series()).nunique() > 1:
            tables["batches"] = report.batch_table(self.images(**BATCHES))
        if self._again.lines:
            once = self.images(**PARTS["grid"])
            tables["repeat"] = report.repeat_table(once, report.images(self._again, **self._dataset))
        return tables

    def _tuned(self) -> dict[str, str]:
        tables = {}
        for mark, labels in (("tuning", TUNED), ("retuning", FEWEST)):
            lines = self.lines(tuned=[labels])
            if lines.size:
                tables[mark] = report.tuning_table(self._tuning, self.images(tuned=[labels]), lines)
        return tables

    def _kept(self) -> dict[str, str]:
        tables = {}
        asked = {"kept": KEPT, "unlabelled": UNLABELLED, "kept_elsewhere": KEPT_ELSEWHERE}
        asked |= {"kept_again": KEPT_AGAIN, "kept_twice": KEPT_TWICE, "kept_decoders": KEPT_DECODERS}
        for mark, wanted in asked.items():
            lines = self.lines(**wanted)
            if lines.size:
                rows = self.images(**wanted)
                tables[mark] = kept_table(lines, rows, report.differences(rows))
        if self.strangers.size:
            tables["strangers"] = strangers_table(self.strangers)
        return tables


def _is_there(lines: pd.DataFrame, wanted: Mapping[str, Collection[Any]]) -> bool:
    """Whether there are several methods, and trainings for each wanted number and with each wanted other decoder."""
    if lines.get("label", pd.Series()).nunique() < 2:
        return False
    numbers = ("n_labels", "seed", "steps")
    others = {source for source in wanted.get("source", ()) if SOURCES[source].multiscale}
    return others <= {*lines.source} and all(set(lines[key]) == set(wanted[key]) for key in numbers if key in wanted)


def main() -> None:
    """Write the tables into the pages, and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages with the tables")
    parser.add_argument("--readme", type=Path, default=README, help="where the summary belongs")
    parser.add_argument("--dataset", default="frl14")
    arguments = parser.parse_args()
    measured = Measured(arguments.results, arguments.dataset)
    tables = {arguments.docs / page: own for page, own in measured.tables().items() if own}
    tables[arguments.readme] = measured.summary()
    fill(tables)
    images = arguments.docs / "images"
    images.mkdir(exist_ok=True)
    for name, figure in measured.figures().items():
        figure.savefig(images / f"results_{name}.png", dpi=110)


if __name__ == "__main__":
    main()
