"""``xtask-reg plot-source``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xtask_reg.cli.options import by_name

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
    from xtask_reg.plain_text import printable

    runs = {name: read_log(path) for name, path in by_name(options.runs).items()}
    _write(plot_measurements(runs), options.out)
    for name, curves in runs.items():
        for stage, points in curves.get("cosine", {}).items():
            (first, start), (last, end) = points[0], points[-1]
            said = f"cosine to the source {start:.3f} at step {first}, {end:.3f} at step {last}"
            print(printable(f"{name}, {stage}: {said}"))
    print(f"written {options.out}")


def _write(figure: Figure, picture: Path) -> None:
    from xtask_reg.whole_file import whole_file

    kind, known = picture.suffix[1:].lower(), figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise ValueError(f"--out {picture}: expected a name that ends in {', '.join(f'.{each}' for each in known)}")
    picture.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(picture) as part:
        figure.savefig(part, format=kind, dpi=150)
