"""Does regularization towards the source help? The grid of trainings behind docs/results.md.

python benchmarks/few_labels.py prepare --data-root DATA   # the source networks' files, once
python benchmarks/few_labels.py tune --data-root DATA      # the settings of each method
python benchmarks/few_labels.py run --data-root DATA       # the grid itself
python benchmarks/few_labels_report.py                     # tables and figures from the results alone

Each command continues where it was stopped; killing it loses only the cells that were running.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from grid import plans
from grid.cell import Cell
from grid.datasets import DATASETS, images_of_folds
from grid.engines import here, on_ray
from grid.places import Places
from grid.prepare import PREPARED, prepare
from grid.results import Results
from grid.tuning import chosen, is_tuned, tuning_cells
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

RESULTS = Path(__file__).parent / "results"
console = Console()


def train(cells: Sequence[Cell], results: Results, places: Places, arguments: argparse.Namespace) -> None:
    """Train the missing cells, and write each result when it is ready.

    Raises:
        SystemExit: after all cells, if one failed.
    """
    wanted = [cell for cell in cells if cell not in results]
    if arguments.ray:
        outcomes = on_ray(wanted, places, arguments.gpus_per_cell)
    else:
        outcomes = here(wanted, places, arguments.jobs, arguments.gpus)
    failed = 0
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for cell, outcome in progress.track(outcomes, total=len(wanted)):
            if isinstance(outcome, str):
                failed += 1
                console.print(f"{cell.folder} failed:\n{outcome}", markup=False)
            else:
                results.add(outcome)
                console.print(f"{cell.folder}: ME {outcome['me']:.3f}, {outcome['seconds']:.0f} s", markup=False)
    if failed:
        raise SystemExit(f"{failed} of {len(wanted)} cells failed; the others are done")


def tuned(cells: Sequence[Cell], tuning: Results, places: Places) -> list[Cell]:
    """The cells with the settings that the tuning chose; those whose tuning is incomplete are left out."""
    images = {
        name: images_of_folds(places.landmarks(name), DATASETS[name].files) for name in {c.dataset for c in cells}
    }
    ready = [cell for cell in cells if is_tuned(tuning, cell)]
    if len(ready) < len(cells):
        console.print(f"{len(cells) - len(ready)} of {len(cells)} cells are left out: run the command tune first")
    settings = [chosen(tuning, cell, images[cell.dataset][cell.fold]) for cell in ready]
    return [dataclasses.replace(cell, setting={**setting, **cell.setting}) for cell, setting in zip(ready, settings)]


def main() -> None:
    """Prepare, tune or run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("prepare", "tune", "run"))
    parser.add_argument("--data-root", type=Path, required=True, help="folder with frl/, lfw158/ and sources/")
    parser.add_argument("--prepared", type=Path, default=PREPARED, help="folder of the prepared sources")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    parser.add_argument("--plan", choices=plans.PLANS, default="core", help="which part of the grid")
    parser.add_argument("--dataset", choices=DATASETS, default="frl14")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cells at a time, one CPU thread each")
    parser.add_argument("--gpus", nargs="*", default=(), help="GPUs to share, as in CUDA_VISIBLE_DEVICES")
    parser.add_argument("--ray", action="store_true", help="run on the Ray cluster of RAY_ADDRESS, or a local one")
    parser.add_argument("--gpus-per-cell", type=float, default=0, help="with --ray")
    arguments = parser.parse_args()
    plan = plans.PLANS[arguments.plan](arguments.dataset)
    places = Places(arguments.data_root, arguments.prepared)
    tuning = Results(arguments.results / "few_labels_tuning.jsonl")
    if arguments.command == "prepare":
        prepare(places)
    elif arguments.command == "tune":
        cells = {each.identity: each for cell in plan for each in tuning_cells(cell)}
        train([*cells.values()], tuning, places, arguments)
    else:
        cells = tuned(plan, tuning, places)
        train(cells, Results(arguments.results / "few_labels.jsonl"), places, arguments)


if __name__ == "__main__":
    main()
