"""``xtask-reg doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path

from xtask_reg.cli.console import wide_console


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("doctor", help="check an MMPose config on one training batch, before a long run")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the config file for tools/train.py")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="replace values of the config"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.integrations.mmpose.doctor import examine, parse_options, show, to_json

    examination = examine(options.config, parse_options(options.cfg_options))
    if options.json:
        print(to_json(examination))
    else:
        show(examination, wide_console())
