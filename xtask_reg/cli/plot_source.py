"""``xtask-reg plot-source``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plot-source", help="plot how much of the source is left, stage by stage, from the logs of runs"
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a work folder of tools/train.py, or its log")
    parser.add_argument("--out", type=Path, required=True, metavar="PICTURE", help=".png, .svg or .pdf to write")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.measuring.plots import plot_measurements
    from xtask_reg.measuring.run_log import read_log

    runs = {path.stem if path.is_file() else path.resolve().name: read_log(path) for path in options.runs}
    if len(runs) < len(options.runs):
        raise ValueError(f"runs need different names: {', '.join(map(str, options.runs))}")
    figure = plot_measurements(runs)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=150)
    for name, curves in runs.items():
        for stage, points in curves.get("cosine", {}).items():
            (first, start), (last, end) = points[0], points[-1]
            print(f"{name}, {stage}: cosine to the source {start:.3f} at step {first}, {end:.3f} at step {last}")
    print(f"written {options.out}")
