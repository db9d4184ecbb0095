"""The pages of predict, report and export, executed on the tiny run in the place of the demonstration."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import confidence
import pytest

from xtask_reg.data.synthetic.landmarks import LANDMARK_NAMES

REPOSITORY = Path(__file__).parents[3]
PAGES = ("predict.md", "report-page.md", "export.md")


def page(name: str) -> str:
    return (REPOSITORY / "docs" / name).read_text()


def blocks(name: str) -> list[tuple[str, str]]:
    """Language and text of the page's blocks, in order."""
    return re.findall(r"```(\w*)\n(.*?)```", page(name), re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch, run_folder, config_file, checkpoint, landmarks) -> Path:
    """The current folder, with what `make demo` leaves."""
    for method in ("ft", "ctd-cd"):
        run = tmp_path / "runs/demo" / method
        shutil.copytree(run_folder, run, ignore=shutil.ignore_patterns("*.pth"))
        shutil.copy(config_file, run / f"td-hm_res18_{method}_synthetic-128x128.py")
        shutil.copy(checkpoint, run / "epoch_30.pth")
    images = shutil.copytree(landmarks, tmp_path / "runs/demo/landmarks") / "images"
    shutil.copy(images / "test_00012_0000.png", images / "test_03000_0000.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", PAGES)
def test_page_runs_from_top_to_bottom(name, folder, command):
    """All but MMPose's own tool, which other tests run."""
    namespace: dict[str, object] = {}
    for language, text in blocks(name):
        if language == "python":
            exec(compile(text, f"docs/{name}", "exec"), namespace)
        if language == "bash" and not text.startswith("python"):
            program, *arguments = shlex.split(text.replace("\\\n", " "))
            assert program == "xtask-reg"
            assert command(*arguments) == 0
    made = dict(zip(PAGES, ("predicted/distances.csv", "comparison.html", "student.pt2")))
    assert (folder / made[name]).stat().st_size > 100


def test_boxes_and_distances_of_the_page(folder, command):
    """The CSV file of the boxes and the JSON file of the distances, for an image of that name."""
    (boxes,) = (text for language, text in blocks("predict.md") if not language)
    (pairs,) = (text for language, text in blocks("predict.md") if language == "json")
    assert {name for pair in json.loads(pairs).values() for name in pair} <= set(LANDMARK_NAMES)
    Path("visit1").mkdir()
    shutil.copy("runs/demo/landmarks/images/test_03000_0000.png", "visit1/a.jpg")
    Path("faces.csv").write_text(boxes.replace("210,80,640,640", "10,8,40,40"))
    Path("clinical.json").write_text(pairs)
    run = Path("runs/demo/ft")
    given = [run / "td-hm_res18_ft_synthetic-128x128.py", run / "epoch_30.pth", "visit1", "--out", "p", "--boxes"]
    assert command("predict", *given, "faces.csv", "--distance", "clinical.json") == 0


def test_numbers_of_confidence():
    results = json.loads((REPOSITORY / "benchmarks/results/confidence.json").read_text())
    text = page("predict.md")
    words = " ".join(text.split())
    assert confidence.markdown_table(results) in text
    assert confidence.sentence(results) in words
    assert f"on {results['faces']} drawn faces" in words
    assert (REPOSITORY / "docs/images/predict.jpg").exists()


@pytest.mark.parametrize("name", PAGES)
def test_readme_links_to_it(name):
    assert f"](docs/{name})" in (REPOSITORY / "README.md").read_text()
