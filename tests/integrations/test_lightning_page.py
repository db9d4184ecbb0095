"""docs/lightning.md: its example runs from top to bottom and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs/lightning.md"


@pytest.mark.filterwarnings("ignore")
def test_example_runs_from_top_to_bottom(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, PAGE.name, "exec"), found)
    assert (tmp_path / "lightning.png").stat().st_size > 10_000
    kept = {name: dict(found["curves"](found[name])["cosine"])["layer4"] for name in ("trainer", "plain_trainer")}
    assert [step for step, _ in kept["trainer"]] == list(range(0, 40, 4))
    measured = found["curves"](found["trainer"])
    assert measured["ratio"].keys() == {"ctd_cd", "ctd_ed"}
    assert measured["weight"]["ctd_ed"][-1][1] > 0
    assert "ratio" not in found["curves"](found["plain_trainer"])
    assert found["trainer"].callback_metrics["error"] > 0
    torch.testing.assert_close(found["detector"].state_dict(), found["checkpoint"]["state_dict"], rtol=0, atol=0)
