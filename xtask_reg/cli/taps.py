"""``xtask-reg taps``."""

from __future__ import annotations

import argparse
import ast
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtask_reg.cli.console import wide_console
from xtask_reg.cli.options import positive

if TYPE_CHECKING:
    from rich.table import Table
    from torch import nn

    from xtask_reg.first_call import Call
    from xtask_reg.tappable import Tappable


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("taps", help="list the modules of a network that can be tapped, and its stages")
    parser.add_argument(
        "model", metavar="MODEL",
        help="timm/<model name>, smp/<architecture>/<encoder>, package.module:function, or an MMPose config (.py)",
    )  # fmt: skip
    parser.add_argument(
        "--kwargs", nargs="+", default=[], metavar="KEY=VALUE", help="arguments for building the network"
    )
    parser.add_argument(
        "--size", type=positive, nargs="+", default=[224], metavar="PIXELS",
        help="side of the image, or its height and width, or depth, height and width of a volume (default: 224)",
    )  # fmt: skip
    parser.add_argument(
        "--depth", type=positive, default=2, help="list paths up to this depth, and all stages (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, with modules of any depth")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    from xtask_reg.first_call import black_images, first_call

    given = " ".join(map(str, options.size))
    if len(options.size) > 3:
        raise ValueError(f"--size {given}: expected a side, or height and width, or depth, height and width")
    size = tuple(options.size * 2 if len(options.size) == 1 else options.size)
    model = _model(options.model, _arguments(options.kwargs))
    try:
        call = first_call(model, black_images(model, [size]))
    except ValueError as error:
        raise ValueError(f"--size {given}: {error}") from error
    taps, (stages, note) = call.taps, _stages(model, call)
    if options.json:
        facts = {"model": options.model, "images": list(call.images.shape), "stages": stages, "note": note}
        print(json.dumps({**facts, "modules": [asdict(tap) for tap in taps]}, indent=1))
        return
    try:
        console = wide_console()
    except ModuleNotFoundError as error:
        raise ImportError("the table needs rich: pip install rich; or use --json") from error
    shown = [tap for tap in taps if tap.path.count(".") < options.depth or tap.path in stages]
    console.print(_table(shown, stages))
    console.print(_summary(taps, len(shown), options.depth), soft_wrap=True)
    console.print(f"stages: {', '.join(stages)}" if stages else note, soft_wrap=True)


def _stages(model: nn.Module, call: Call) -> tuple[list[str], str]:
    """The stages, and the reason if there are none."""
    from xtask_reg.stages import none_found, stages_of

    try:
        stages = stages_of(model, call)
    except ValueError as error:
        return [], str(error)
    return stages, "" if stages else none_found(model)


def _arguments(given: Sequence[str]) -> dict[str, Any]:
    """The arguments ``KEY=VALUE`` by key; values are Python literals, or else text."""
    arguments: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key.isidentifier() and equals):
            raise ValueError(f"--kwargs {text}: expected KEY=VALUE")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return arguments


def _model(name: str, arguments: dict[str, Any]) -> nn.Module:
    """The network, with random weights; any failure becomes a ``ValueError`` with a one-line message."""
    from xtask_reg.integrations.named import build_module

    if os.getcwd() not in sys.path:  # as in `python -m xtask_reg`; the command alone lacks it
        sys.path.insert(0, os.getcwd())
    try:
        if name.endswith(".py"):
            from xtask_reg.integrations.mmpose.student import build_student

            return build_student(Path(name), arguments)
        return build_module(name, **arguments)
    except Exception as error:
        raise ValueError(" ".join(f"{name} cannot be built: {error}".split())) from error


def _table(taps: Sequence[Tappable], stages: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("path", "type", "shape"):
        table.add_column(title, overflow="fold")
    for title in ("calls", "parameters"):
        table.add_column(title, justify="right")
    table.add_column("tap")
    for tap in taps:
        verdict = f"stage {stages.index(tap.path) + 1}" if tap.path in stages else f"no: {tap.reason}"
        row = (tap.path, tap.type, " x ".join(map(str, tap.shape or ())), str(tap.calls), f"{tap.parameters:,}")
        style = "bold" if tap.path in stages else "dim" if tap.reason else ""
        table.add_row(*map(Text, (*row, verdict if tap.path in stages or tap.reason else "yes")), style=style)
    return table


def _summary(taps: Sequence[Tappable], shown: int, depth: int) -> str:
    good = sum(not tap.reason for tap in taps)
    hidden = f"; {len(taps) - shown} are not shown (--depth {depth})" if shown < len(taps) else ""
    return f"\n{good} of {len(taps)} modules can be tapped{hidden}"
