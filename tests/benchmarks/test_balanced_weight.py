"""docs/weights.md has the tables of the raw results."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

REPOSITORY = Path(__file__).parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("balanced_weight", BENCHMARKS / "balanced_weight.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("statistics", ["source", "batch"])
def test_tables(script, statistics):
    runs = pd.read_json(script.RESULTS, lines=True)
    own = runs[runs.statistics == statistics]
    page = (REPOSITORY / "docs" / "weights.md").read_text()
    assert script.changes(own) in page
    assert statistics == "batch" or script.by_setting(own) in page


def test_what_a_change_does(script):
    """Two seeds, and a cosine with known effects of settings and seeds."""
    cells = [cell for statistics in ("source",) for cell in script.cells(2, statistics)]
    parts = {"reduction": {"mean": 0, "sum": 0.5}, "batch": {2: 0, 16: 0.25}, "size": {64: 0, 128: 1}}
    for cell in cells:
        noise = 0.125 if cell["seed"] else 0.0
        cell["cosine"] = cell["error_percent"] = noise + sum(parts[key][cell[key]] for key in parts)
    table = script.changes(pd.DataFrame(cells)).splitlines()
    # two values 0.125 apart have the standard deviation 0.125 / sqrt(2), and 2 / sqrt(pi) times that is 0.0997
    assert "| balanced | cosine | 0.500 | 0.250 | 1.000 | 0.100 |" in table
    assert "| FT | cosine |  | 0.250 | 1.000 | 0.100 |" in table
