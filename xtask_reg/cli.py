"""The command line: a thin layer over the library."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"xtask-reg {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xtask-reg", description="Cross-task distillation regularizers for PyTorch.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="fine-tune a landmark detector with and without its source's help")
    demo.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="folder for everything (default: %(default)s)"
    )
    demo.add_argument(
        "--epochs", type=_positive, default=30, help="training epochs of each method (default: %(default)s)"
    )
    demo.set_defaults(run=_demo)
    tool = commands.add_parser("mmpose-tool", help="print the path of MMPose's tools/train.py or tools/test.py")
    tool.add_argument("name", choices=("train", "test"))
    tool.set_defaults(run=_mmpose_tool)
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number above 0")
    return int(text)


def _demo(options: argparse.Namespace) -> None:
    from xtask_reg.demo.run import run_demo

    run_demo(options.out, options.epochs)


def _mmpose_tool(options: argparse.Namespace) -> None:
    from xtask_reg.integrations.mmpose.tools import tool

    print(tool(options.name))
