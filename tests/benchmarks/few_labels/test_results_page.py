"""docs/results.md has the numbers of the committed results."""

from __future__ import annotations

import pytest
from few_labels_report import PAGE, PARTS, README, RESULTS, Measured
from grid.report import cell_of
from grid.results import Results
from marked_page import filled


def test_tables():
    page = PAGE.read_text()
    tables = Measured(RESULTS, "frl14").tables()
    assert tables.keys() >= {"grid", "variants", "tuning"}
    assert filled(page, tables) == page
    for part in PARTS.keys() - tables.keys():
        assert f"<!-- {part} -->" not in page


def test_summary():
    readme = README.read_text()
    assert filled(readme, Measured(RESULTS, "frl14").summary()) == readme


def test_every_cell_has_its_errors():
    results = Results(RESULTS / "few_labels.jsonl")
    errors = results.errors.groupby("cell").error
    for line in results.lines:
        assert errors.get_group(cell_of(line).folder).mean() == pytest.approx(line["me"], abs=1e-4)
