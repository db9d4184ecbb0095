"""docs/timm.md, executed and checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm

import xtask_reg as xr
from xtask_reg.integrations.timm import feature_stages

PAGE = (Path(__file__).parents[2] / "docs" / "timm.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ROWS = [row.split("|")[1:4] for row in PAGE.splitlines() if row.startswith("| `")]


def test_the_script_is_short_and_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS[1].splitlines()) < 60
    for block in BLOCKS:
        exec(compile(block, "docs/timm.md", "exec"), {})
    assert (tmp_path / "timm.png").exists()
    said, error = capsys.readouterr().out.splitlines()
    assert said in PAGE
    assert float(error.split(": ")[1]) < 1.5


def spelled(cell):
    """``a.1`` … ``a.3`` written out."""
    names = re.findall(r"`([^`]+)`", cell)
    if "…" not in cell:
        return names
    first, last = names[-2:]
    stem = first.rstrip("0123456789")
    return names[:-2] + [f"{stem}{number}" for number in range(int(first[len(stem) :]), int(last[len(stem) :]) + 1)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_what_is_tapped_where(row):
    models, found, own = row
    for name in re.findall(r"`([^`]+)`", models):
        model = timm.create_model(name)
        if "none" in found:
            with pytest.raises(ValueError, match="no stages were found"):
                xr.find_stages(model)
        else:
            assert xr.find_stages(model) == spelled(found)
        same = spelled(found) if "the same" in own else []
        assert feature_stages(model) == spelled(own) + same
