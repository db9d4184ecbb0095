"""``xtask-reg demo``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help="fine-tune a landmark detector with and without its source's help")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="folder for everything (default: %(default)s)"
    )
    parser.add_argument(
        "--epochs", type=_positive, default=30, help="training epochs of each method (default: %(default)s)"
    )
    parser.set_defaults(run=_run)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number above 0")
    return int(text)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.demo.run import run_demo

    run_demo(options.out, options.epochs)
