"""The results of finished cells, and the errors of their test images."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from result_lines import append

from grid.cell import Cell, cell_of

COLUMNS = ["cell", "image", "error"]


class Results:
    """A file of JSON lines, one per cell, and ``<name>_errors.csv.gz`` with one row for each test image of each cell.

    Args:
        path: the ``.jsonl``; it need not exist yet.

    Raises:
        ValueError: if a line is not JSON, perhaps because it was cut off; delete that line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors_path = path.with_name(f"{path.stem}_errors.csv.gz")
        text = path.read_text().splitlines() if path.exists() else []
        self.lines = [self._parsed(number, line) for number, line in enumerate(text, 1)]
        self._done = {cell_of(line).identity for line in self.lines}

    def _parsed(self, number: int, line: str) -> dict[str, Any]:
        try:
            return json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.path}, line {number} is no JSON ({error}): delete it") from error

    def __contains__(self, cell: Cell) -> bool:
        return cell.identity in self._done

    @property
    def errors(self) -> pd.DataFrame:
        """The errors of the cells' test images, in heatmap pixels, with the columns :data:`COLUMNS`."""
        if not self.errors_path.exists():
            return pd.DataFrame(columns=COLUMNS)
        return pd.read_csv(self.errors_path)

    def add(self, line: Mapping[str, Any]) -> None:
        """Write a result; its ``errors`` by image come first, so that no line is without them."""
        cell = cell_of(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        own = pd.DataFrame({"cell": cell.folder, "image": line["errors"].keys(), "error": line["errors"].values()})
        others = self.errors[self.errors.cell != cell.folder]
        partial = self.errors_path.with_name(f"{self.errors_path.name}.partial")
        pd.concat([others, own.round(4)] if len(others) else [own.round(4)]).to_csv(
            partial, index=False, compression={"method": "gzip", "mtime": 0}
        )
        os.replace(partial, self.errors_path)
        kept = {key: value for key, value in line.items() if key != "errors"}
        append(self.path, kept)
        self.lines.append(kept)
        self._done.add(cell.identity)
