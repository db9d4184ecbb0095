"""The demonstration from end to end, on less data: MMPose's own tools train and test every method."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from xtask_reg.demo import run
from xtask_reg.demo.stages import Stage
from xtask_reg.integrations.mmpose.predict import predict
from xtask_reg.integrations.mmpose.student import load_student
from xtask_reg.integrations.mmpose_files import configs
from xtask_reg.landmarks.faces import Face
from xtask_reg.landmarks.predictions import read_predictions


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(run, "SIZE", 64)
    monkeypatch.setattr(run, "SOURCE_IMAGES", 2)
    monkeypatch.setattr(run, "SOURCE_EPOCHS", 1)
    people = {"train": range(1000, 1008), "val": range(2000, 2004), "test": range(3000, 3006)}
    monkeypatch.setattr(run, "LANDMARK_PEOPLE", people)


def test_demo_makes_table_and_pictures_and_uses_again_what_fits(small, tmp_path):
    out = tmp_path / "demo"
    methods = ("FT", "CTD-Com")
    console = Console(record=True, width=160)
    run.Demo(out, 1, console, methods).run()
    results = json.loads((out / "results.json").read_text())
    assert tuple(results["methods"]) == methods
    assert all(scores["images"] == 6 for scores in results["methods"].values())
    assert "no evidence" in results["note"]
    table = (out / "table.md").read_text()
    for method, scores in results["methods"].items():
        assert f"| {method} | {scores['me']:.3f} ± {scores['sd']:.3f} |" in table
    for picture in ("ced.png", "qualitative.png"):
        assert cv2.imread(str(out / picture)).std() > 10
    printed = console.export_text()
    assert "ced.png" in printed
    assert "qualitative.png" in printed

    # the inference API gives the points of tools/test.py: argmax cell x 4 in a 128 px input, for 64 px images
    tested = read_predictions(out / "ft" / "predictions.json")
    config = configs() / "demo" / "td-hm_res18_ft_synthetic-128x128.py"
    (found,) = predict(load_student(config, out / "ft" / "epoch_1.pth"), [Face(Path(f)) for f in tested.images[:2]])
    points, heatmaps = (np.stack([getattr(face, part) for face in found]) for part in ("points", "heatmaps"))
    np.testing.assert_allclose(points, tested.predicted[:2], atol=1e-3)
    rows, columns = np.unravel_index(heatmaps.reshape(2, 14, -1).argmax(axis=2), heatmaps.shape[2:])
    np.testing.assert_allclose(points, np.stack([columns, rows], axis=2) * 4 * 64 / 128, atol=1e-3)

    trained = {method: (out / method.lower() / "epoch_1.pth").stat().st_mtime_ns for method in methods}
    (out / "ctd-com" / "result.json").unlink()
    run.Demo(out, 1, Console(quiet=True), methods).run()
    assert (out / "ft" / "epoch_1.pth").stat().st_mtime_ns == trained["FT"]
    log = (out / "ctd-com" / "train.txt").read_text()
    assert "resumed epoch: 1" in log


def test_stage_is_made_again_when_its_facts_change(tmp_path):
    stage = Stage(tmp_path / "stage", ["a", 1])
    (stage.folder / "data").write_text("x")
    assert not stage.complete
    stage.finish({"seconds": 2})
    again = Stage(tmp_path / "stage", ["a", 1])
    assert again.complete
    assert again.result == {"seconds": 2}
    other = Stage(tmp_path / "stage", ["a", 2])
    assert not other.complete
    assert not (other.folder / "data").exists()


@pytest.mark.parametrize("name", ["landmarks/train.json", "landmarks/images/a.png"])
def test_a_folder_of_somebody_else_is_left_alone(name, tmp_path):
    """``demo --out data``, where ``data/landmarks`` is what the shipped configs train on."""
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text("x")
    with pytest.raises(
        FileExistsError, match="landmarks is not empty and not from an earlier demo; choose another --out"
    ):
        Stage(tmp_path / "landmarks", ["a"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_an_empty_folder_becomes_a_stage_and_links_in_it_are_not_followed(tmp_path):
    (tmp_path / "stage").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/data").write_text("x")
    stage = Stage(tmp_path / "stage", ["a", 1])
    (stage.folder / "link").symlink_to(tmp_path / "own")
    (stage.folder / "deep/er").mkdir(parents=True)
    Stage(tmp_path / "stage", ["a", 2])
    assert [path.name for path in stage.folder.iterdir()] == ["made_from.txt"]
    assert (tmp_path / "own/data").exists()
