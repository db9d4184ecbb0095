"""``xtask-reg configs``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("configs", help="list the MMPose configs that are installed, or print the path of one")
    parser.add_argument("name", nargs="?", help="name of a config, or a part of it that no other name contains")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.integrations.mmpose_files import configs

    folder = configs()
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("td-hm_*.py"))}
    if options.name is not None:
        files = _named(options.name, files)
    if options.json:
        print(json.dumps({name: {"path": str(path), "what": _first_line(path)} for name, path in files.items()}))
    elif options.name is not None:
        print(*files.values())
    else:
        print(f"{folder}, each with .py:\n")
        for name, path in files.items():
            print(f"{name}\n    {_first_line(path)}")


def _named(text: str, files: Mapping[str, Path]) -> dict[str, Path]:
    """The config of this name, or else the one whose name contains it."""
    wanted = text.removesuffix(".py")
    found = [wanted] if wanted in files else [name for name in files if wanted in name]
    if len(found) != 1:
        several = f"{len(found)} configs have {text!r} in their name" if found else f"no config is called {text!r}"
        raise ValueError(f"{several}; expected one of {', '.join(found or files)}")
    return {found[0]: files[found[0]]}


def _first_line(path: Path) -> str:
    """The config's description, in its first line."""
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
