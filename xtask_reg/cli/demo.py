"""``xtask-reg demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from xtask_reg.cli.options import positive


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help="fine-tune a landmark detector with and without its source's help")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="folder for all files (default: %(default)s)"
    )
    parser.add_argument(
        "--epochs", type=positive, default=30, help="training epochs of each method (default: %(default)s)"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from rich.console import Console

    from xtask_reg.demo.run import Demo

    Demo(options.out, options.epochs, Console()).run()
