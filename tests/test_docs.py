"""Docs that can be executed are executed."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest

from xtask_reg.landmarks import LandmarkScores
from xtask_reg.landmarks.predictions import markdown_table

REPOSITORY = Path(__file__).parent.parent
PAGES = [
    "README.md",
    *(str(path.relative_to(REPOSITORY)) for path in sorted((REPOSITORY / "docs").rglob("*.md"))),
]
# pages whose Python code is run by separate tests, which also check its output
ELSEWHERE = {
    "docs/cache.md": "tests/caching/test_page.py",
    "docs/export.md": "tests/integrations/commands/test_pages.py",
    "docs/huggingface.md": "tests/test_docs_huggingface.py",
    "docs/lightning.md": "tests/integrations/test_lightning_page.py",
    "docs/mmengine.md": "tests/integrations/test_mmengine_page.py",
    "docs/mmpose.md": "tests/integrations/test_mmpose_runs.py",
    "docs/monai.md": "tests/integrations/test_monai_page.py",
    "docs/nnunet.md": "tests/integrations/test_nnunet_page.py",
    "docs/predict.md": "tests/integrations/commands/test_pages.py",
    "docs/smp.md": "tests/integrations/test_smp_page.py",
    "docs/timm.md": "tests/integrations/test_timm_page.py",
    "docs/torchrun.md": "tests/integrations/test_torchrun_page.py",
}


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (REPOSITORY / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page) and page not in ELSEWHERE])
def test_code_runs_from_top_to_bottom(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in python_blocks(page):
        exec(compile(block, page, "exec"), namespace)
    if page in ("docs/own-loop.md", "docs/quick-start.md"):  # what it says that xr.ctd prints
        (said,) = re.findall(r"```text\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items())
def test_other_pages_are_run_by_a_test_of_their_own(page, test):
    assert python_blocks(page)
    code = (REPOSITORY / test).read_text()
    assert Path(page).name in code
    assert "```" in code


@pytest.mark.parametrize("extra", ["huggingface", "lightning", "smp", "timm"])
def test_pages_of_frameworks_name_the_extras_of_their_examples(extra):
    text = (REPOSITORY / f"docs/{extra}.md").read_text()
    assert "from xtask_reg.data import" in text
    assert f'pip install "xtask-reg[{extra},data]"' in text


def test_links_lead_somewhere():
    for page in map(REPOSITORY.joinpath, PAGES):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_rows_of_tables_have_the_cells_of_their_header():
    """With one more, a reader finds values in the wrong column, or not at all."""
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", (REPOSITORY / page).read_text(), flags=re.DOTALL | re.MULTILINE)
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            header, *rows = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
            assert {*rows} == {header}, f"{page}: {table.splitlines()[0]}"


def test_the_map_of_the_house_has_every_room():
    rooms = {
        path.name + "/" * path.is_dir()
        for path in (REPOSITORY / "xtask_reg").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    table = (REPOSITORY / "docs/contributing.md").read_text().split("## The map of the house")[1].split("\n## ")[0]
    named = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`([^`]+)`", row.split("|")[1])
    }
    assert rooms - {"__init__.py"} == named


def test_the_api_reference_has_every_name():
    """All names that users import, from the core and the other packages."""
    pages = "\n".join((REPOSITORY / page).read_text() for page in PAGES if page.startswith("docs/api/"))
    documented = set(re.findall(r"^::: (\S+)", pages, re.MULTILINE))
    for room in ("", ".losses", ".finetune", ".measuring", ".sources", ".landmarks", ".segmentation"):
        module = importlib.import_module(f"xtask_reg{room}")
        missing = [name for name in module.__all__ if not {f"xtask_reg{room}.{name}", f"xtask_reg.{name}"} & documented]
        assert missing == [], room


def test_option_keys_of_the_mmpose_page_exist():
    """Every dotted key in docs/mmpose.md exists in a shipped config (or is a valid argument there)."""
    from mmengine.config import Config

    config = Config.fromfile(REPOSITORY / "configs/mmpose/td-hm_res50_ctd-com_landmarks-256x256.py")
    optional = {"subset", "indices", "outfile", "success_at", "frozen", "frozen_but", "checkpoint", "cache"}
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
