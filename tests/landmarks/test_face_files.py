"""Files of found landmarks: the paths of the images in them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from xtask_reg.landmarks.face_files import write_coco, write_csv
from xtask_reg.landmarks.faces import LandmarkedFace


@pytest.mark.parametrize("images", ["photos", "linked/photos", "large/disk/photos"])
@pytest.mark.parametrize("out", ["out", "large/disk/out", "linked/out", "linked/photos/out"])
def test_paths_hold_where_folders_are_links(out, images, tmp_path, monkeypatch):
    """As where results lie on a larger disk that the home folder links to."""
    for folder in ("photos", "large/disk/photos"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path / "large/disk")
    monkeypatch.chdir(tmp_path)
    image, folder = Path(images, "a b.png"), Path(out)
    folder.mkdir()
    image.write_text("the image")
    face = LandmarkedFace(image, (9, 9), (0, 0, 9, 9), np.ones((1, 2)), np.ones(1), None, np.zeros((2, 3)))
    write_csv(folder / "l.csv", [face], ["a"], folder)
    write_coco(folder / "l.json", [face], ["a"], [0], folder)
    with (folder / "l.csv").open() as file:
        (row,) = csv.DictReader(file)
    (entry,) = json.loads((folder / "l.json").read_text())["images"]
    assert [(folder / name).read_text() for name in (row["file"], entry["file_name"])] == ["the image"] * 2


def test_an_image_that_is_a_link_keeps_its_name(tmp_path):
    """As in a store of files by their contents."""
    (tmp_path / "8f3e").write_text("x")
    (tmp_path / "a.png").symlink_to(tmp_path / "8f3e")
    face = LandmarkedFace(tmp_path / "a.png", (9, 9), (0, 0, 9, 9), np.ones((1, 2)), np.ones(1), None, np.zeros((2, 3)))
    write_csv(tmp_path / "l.csv", [face], ["a"], tmp_path)
    assert (tmp_path / "l.csv").read_text().splitlines()[1].startswith("a.png,")
