"""``xtask-reg plot-source``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    _write(plot_measurements(runs), options.out)
    for name, curves in runs.items():
        for stage, points in curves.get("cosine", {}).items():
            (first, start), (last, end) = points[0], points[-1]
            print(f"{name}, {stage}: cosine to the source {start:.3f} at step {first}, {end:.3f} at step {last}")
    print(f"written {options.out}")


def _write(figure: Figure, picture: Path) -> None:
    kind, known = picture.suffix[1:].lower(), figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise ValueError(f"--out {picture}: expected a name that ends in {', '.join(f'.{each}' for each in known)}")
    picture.parent.mkdir(parents=True, exist_ok=True)
    part = picture.with_name(f".{picture.name}.part")
    try:
        figure.savefig(part, format=kind, dpi=150)
        os.replace(part, picture)
    finally:
        part.unlink(missing_ok=True)
