"""Result lines survive an interruption, and are never without the errors of their images."""

from __future__ import annotations

import dataclasses
import json

import pytest
from grid.cell import Cell, cell_of
from grid.results import Results

CELL = Cell("frl14", "dlib", "source", "CTD-ED", 20, 3, setting={"lr": 1e-4, "weight": 1e-3})


def line(cell, error=0.5):
    return {**dataclasses.asdict(cell), "me": error, "errors": {"a": error, "b": error + 0.25}}


def test_a_line_and_its_errors_come_back(tmp_path):
    results = Results(tmp_path / "grid.jsonl")
    assert CELL not in results
    results.add(line(CELL))
    for each in (results, Results(tmp_path / "grid.jsonl")):
        assert CELL in each
        assert cell_of(each.lines[0]) == CELL
        assert "errors" not in each.lines[0]
        assert each.errors.to_dict("list") == {"cell": [CELL.folder] * 2, "image": ["a", "b"], "error": [0.5, 0.75]}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"fold": 0},
        {"steps": 800},
        {"n_labels": 10},
        {"teacher": "random"},
        {"setting": {"lr": 1e-4, "weight": 1e-2}},
        {"split": "tuning"},
    ],
    ids=str,
)
def test_another_cell_is_not_done(tmp_path, change):
    results = Results(tmp_path / "grid.jsonl")
    results.add(line(CELL))
    other = dataclasses.replace(CELL, **change)
    assert other not in results
    assert other.folder != CELL.folder


def test_killed_between_errors_and_line(tmp_path, monkeypatch):
    """The errors are there and the line is not: the cell is trained again, and its errors replace the old ones."""
    results = Results(tmp_path / "grid.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            results.add(line(CELL))
    again = Results(tmp_path / "grid.jsonl")
    assert CELL not in again
    again.add(line(CELL, error=1.0))
    assert again.errors.error.tolist() == [1.0, 1.25]


def test_killed_within_a_line(tmp_path):
    path = tmp_path / "grid.jsonl"
    Results(path).add(line(CELL))
    path.write_text(path.read_text() + '{"split": "te')
    with pytest.raises(ValueError, match=r"grid.jsonl, line 2 is no JSON .*: delete it"):
        Results(path)
