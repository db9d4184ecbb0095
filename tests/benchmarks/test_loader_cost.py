"""benchmarks/loader_cost.py."""

from __future__ import annotations

import json
import sys

import loader_cost
from steps import job_report

from xtask_reg.data import synthetic


def test_whole_benchmark(tmp_path, monkeypatch) -> None:
    out = tmp_path / "loader_cost.json"
    chosen = ["--batches", "2", "--workers", "1", "--rounds", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["loader_cost.py", *chosen])
    loader_cost.main()
    found = json.loads(out.read_text())
    counted = {
        part: {number: {name: len(values) for name, values in waited.items()} for number, waited in measured.items()}
        for part, measured in found["milliseconds"].items()
    }
    assert counted == {
        "collation": {"2": {"pseudo_collate": 2, "stacked_collate": 2}},
        "workers": {"1": {"persistent workers": 2, "new ones": 2}},
    }
    assert found["hardware"]["cores"]


def test_which_workers_persist(tmp_path) -> None:
    synthetic.write_landmark_set(tmp_path, range(2), 1, 64, split="train")
    loaders = loader_cost.two_loaders(tmp_path, 3)
    assert {name: each.persistent_workers for name, each in loaders.items()} == {
        "persistent workers": True,
        "new ones": False,
    }
    assert {each.num_workers for each in loaders.values()} == {3}
    assert loader_cost.loader(tmp_path).persistent_workers  # the shipped configs, as the page says


def test_table_by_hand() -> None:
    """Ratios of 0.5, 1 and 3 in the three rounds."""
    table = job_report.loader_table({"8": {"old": [2.0, 9.0, 1.0], "new": [1.0, 9.0, 3.0]}}, "batch", ("new", "old"))
    assert table.splitlines() == ["| batch | new / old | quartiles |", "|---|---|---|", "| 8 | 1.00 | 0.75 to 2.00 |"]
