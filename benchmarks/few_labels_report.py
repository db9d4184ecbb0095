"""Tables and figures of docs/results.md, from the result files of few_labels.py alone.

python benchmarks/few_labels_report.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from grid import figures, report
from grid.cell import STEPS
from grid.results import Results

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parent.parent / "docs" / "images"
SHOWN = ("FT", "CTD-ED", "CTD-ED decayed", "CTD-CD", "CTD-Com", "L2-SP", "LP-FT", "FE")


def main() -> None:
    """Print the tables, draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the figures")
    parser.add_argument("--dataset", default="frl14")
    arguments = parser.parse_args()
    results, tuning = (Results(arguments.results / f"{name}.jsonl") for name in ("few_labels", "few_labels_tuning"))
    wanted = {"dataset": arguments.dataset, "steps": STEPS}
    rows = report.images(results, **wanted)
    lines = report.lines(results, **wanted)
    print(report.main_table(rows, lines), report.tuning_table(tuning, rows, lines), sep="\n\n")
    draw(rows, lines, arguments.images)


def draw(rows: pd.DataFrame, lines: pd.DataFrame, out: Path) -> None:
    """All figures."""
    names = [name for name in SHOWN if name in set(rows.label)]
    against = report.differences(rows)
    pictures = {
        "labels": figures.error_by_labels(rows, names),
        "differences": figures.forest(against, report.PLAIN),
        "curves": figures.curves(lines, names),
        "cost": figures.cost(against, report.times(lines)),
        **{f"ced_{count}": figures.ced(own, names) for count, own in rows.groupby("n_labels")},
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        figure.savefig(out / f"results_{name}.png", dpi=110)


if __name__ == "__main__":
    main()
