"""``xtask-reg mmpose-tool``."""

from __future__ import annotations

import argparse


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("mmpose-tool", help="print the path of MMPose's tools/train.py or tools/test.py")
    parser.add_argument("name", choices=("train", "test"))
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.integrations.mmpose_files import tool

    print(tool(options.name))
