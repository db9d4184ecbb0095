"""The pages about the grid have the numbers of the committed results."""

from __future__ import annotations

import re

import pytest
from few_labels_report import DOCS, PARTS, README, RESULTS, Measured
from grid.report import cell_of
from grid.results import Results
from marked_page import filled


def test_tables():
    tables = Measured(RESULTS, "frl14").tables()
    assert tables["results.md"].keys() >= PARTS.keys()
    for name, own in tables.items():
        page = (DOCS / name).read_text()
        assert filled(page, own) == page
        assert {*re.findall("<!-- (.*) -->", page)} == {*own, "end"}


def test_summary():
    readme = README.read_text()
    assert filled(readme, Measured(RESULTS, "frl14").summary()) == readme


def test_the_hourglass_s_unfinished_tuning():
    tried = {"HG": {}, "FT": {}}
    for line in Results(RESULTS / "few_labels_tuning.jsonl").lines:
        if (line["method"], line["source"]) in {("HG", "scratch"), ("FT", "dlib")} and line["n_labels"] == 20:
            tried[line["method"]].setdefault(line["setting"]["lr"], {})[line["fold"]] = line["me"]
    means = {method: {rate: sum(folds.values()) / 2 for rate, folds in own.items()} for method, own in tried.items()}
    assert all(folds.keys() == {0, 1} for own in tried.values() for folds in own.values())
    assert [len(own) for own in tried.values()] == [3, 6]
    assert max(means["HG"].values()) < min(means["FT"].values())
    page = (DOCS / "results.md").read_text()
    assert f"{means['HG'][1e-4]:.3f} at 1e-4, the mean of two trainings, where FT has " in page
    assert f"FT has {min(means['FT'].values()):.3f} at its best" in page


def test_every_cell_has_its_errors():
    results = Results(RESULTS / "few_labels.jsonl")
    errors = results.errors.groupby("cell").error
    for line in results.lines:
        assert errors.get_group(cell_of(line).folder).mean() == pytest.approx(line["me"], abs=1e-4)
