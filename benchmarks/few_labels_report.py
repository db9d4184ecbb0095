"""Tables and figures of docs/results.md, from the result files of few_labels.py alone.

python benchmarks/few_labels_report.py
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from grid import figures, plans, report
from grid.cell import STEPS
from grid.results import Results

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parent.parent / "docs" / "images"
SHOWN = ("FT", "CTD-ED", "CTD-ED decayed", "CTD-CD", "CTD-Com", "L2-SP", "LP-FT", "FE")
MIDDLE, MOST = plans.LABELS[0], max(plans.LABELS)
PARTS: Mapping[str, Mapping[str, Collection[Any]]] = {
    "The grid": {"method": {method for *_, method in plans.CORE}, "seed": [0], "steps": [STEPS]},
    "Where, how and how much": {
        "method": {report.PLAIN, *(method for *_, method in plans.VARIANTS)},
        "source": ["dlib"],
        "n_labels": [MIDDLE],
        "seed": [0],
        "steps": [STEPS],
    },
    "Two seeds": {"method": plans.REPEATED, "source": ["dlib"], "n_labels": [MIDDLE], "steps": [STEPS]},
    "Three times as long": {"method": SHOWN, "n_labels": [MOST], "steps": [3 * STEPS]},
}


def main() -> None:
    """Print the tables, draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the figures")
    parser.add_argument("--dataset", default="frl14")
    arguments = parser.parse_args()
    results, tuning = (Results(arguments.results / f"{name}.jsonl") for name in ("few_labels", "few_labels_tuning"))
    everything = report.lines(results, dataset=[arguments.dataset])
    time = report.times(everything[everything.steps == plans.COST_STEPS])
    arguments.images.mkdir(parents=True, exist_ok=True)
    for title, wanted in PARTS.items():
        lines = report.lines(results, dataset=[arguments.dataset], **wanted)
        if lines.empty or lines.label.nunique() == 1:
            continue
        rows = report.images(results, dataset=[arguments.dataset], **wanted)
        print(f"## {title}", report.main_table(rows, lines, time), sep="\n\n", end="\n\n")
        name = title.lower().replace(" ", "_").replace(",", "")
        figures.forest(report.differences(rows)).savefig(arguments.images / f"results_{name}.png", dpi=110)
        if title == "The grid":
            draw(rows, lines, time, arguments.images)
    print(
        "## Tuning",
        report.tuning_table(tuning, report.images(results, dataset=[arguments.dataset]), everything),
        sep="\n\n",
    )


def draw(rows: pd.DataFrame, lines: pd.DataFrame, time: Mapping[str, float], out: Path) -> None:
    """The figures of the grid but for the differences."""
    pictures = {
        "labels": figures.error_by_labels(rows, shown(rows)),
        "curves": figures.curves(lines, shown(rows)),
        "cost": figures.cost(report.differences(rows), time),
        **{f"ced_{count}": figures.ced(own, shown(own)) for count, own in rows.groupby("n_labels")},
    }
    for name, figure in pictures.items():
        figure.savefig(out / f"results_{name}.png", dpi=110)


def shown(rows: pd.DataFrame) -> list[str]:
    """The methods in the figures."""
    return [name for name in SHOWN if name in set(rows.label)]


if __name__ == "__main__":
    main()
