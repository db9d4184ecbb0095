"""benchmarks/loader_cost.py."""

from __future__ import annotations

import json
import sys

import loader_cost
from steps import job_report


def test_whole_benchmark(tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / "loader_cost.json"
    monkeypatch.setattr(sys, "argv", ["loader_cost.py", "--batches", "2", "--rounds", "2", "--out", str(out)])
    loader_cost.main()
    found = json.loads(out.read_text())
    assert {name: len(values) for name, values in found["milliseconds"]["2"].items()} == dict.fromkeys(
        ("pseudo_collate", "stacked_collate"), 2
    )
    assert found["hardware"]["cores"]
    assert "\n| 2 | " in capsys.readouterr().out


def test_table_by_hand() -> None:
    """Ratios of 0.5, 1 and 3 in the three rounds."""
    table = job_report.loader_table({"8": {"pseudo_collate": [2.0, 9.0, 1.0], "stacked_collate": [1.0, 9.0, 3.0]}})
    assert table.splitlines()[-1] == "| 8 | 1.00 | 0.75 to 2.00 |"
