"""Docs that can be executed are executed."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from xtask_reg.landmarks import LandmarkScores
from xtask_reg.landmarks.predictions import markdown_table

REPOSITORY = Path(__file__).parent.parent


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/own-loop.md", "docs/performance.md", "docs/synthetic.md", "docs/taps.md"]
)
def test_code_runs_from_top_to_bottom(page, capsys):
    blocks = python_blocks(page)
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
    if page == "docs/own-loop.md":  # what it says that xr.ctd prints
        (said,) = re.findall(r"```text\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
        assert said in capsys.readouterr().out


def test_links_lead_somewhere():
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_option_keys_of_the_mmpose_page_exist():
    """Every dotted key that docs/mmpose.md names is a key of a shipped config (or of what it may be given)."""
    from mmengine.config import Config

    config = Config.fromfile(REPOSITORY / "configs/mmpose/td-hm_res50_ctd-com_landmarks-256x256.py")
    optional = {"subset", "indices", "outfile", "frozen", "frozen_but", "checkpoint", "cache"}
    table = (REPOSITORY / "docs/mmpose.md").read_text().split("## What to set")[1].split("\n## ")[0]
    keys = re.findall(r"`((?:train|val|test|model)_?\w*\.[\w.]+)", table)
    assert len(keys) > 10
    for key in keys:
        entry = config
        *path, last = key.split(".")
        for part in path:
            entry = entry[int(part)] if part.isdigit() else entry[part]
        assert last in entry or last in optional, key


@pytest.mark.parametrize(
    ("page", "results", "key"),
    [
        ("docs/real-data.md", "real_data.json", "runs"),
        ("docs/synthetic.md", "synthetic_faces.json", "methods"),
    ],
)
def test_tables_are_those_of_the_result_files(page, results, key):
    runs = json.loads((REPOSITORY / "benchmarks" / "results" / results).read_text())[key]
    fields = [field.name for field in dataclasses.fields(LandmarkScores)]
    scores = {name: LandmarkScores(**{field: run[field] for field in fields}) for name, run in runs.items()}
    seconds = {name: run["seconds"] for name, run in runs.items()}
    assert markdown_table(scores, seconds) in (REPOSITORY / page).read_text()
