"""Reads the log of an MMEngine training that was not resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xtask_reg.measuring.run_log import json_lines, scalar_files


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log in a work folder."""
    (file,) = scalar_files(folder)
    return [line for _, line in json_lines(file)]


def logged(folder: Path, key: str) -> list[float]:
    """The values of one key, line by line."""
    return [line[key] for line in lines(folder) if key in line]
