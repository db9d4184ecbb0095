"""The image paths in files of found landmarks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from xtask_reg.landmarks.face_files import write_coco, write_csv, write_distances
from xtask_reg.landmarks.faces import LandmarkedFace


@pytest.mark.parametrize("images", ["photos", "linked/photos", "large/disk/photos"])
@pytest.mark.parametrize("out", ["out", "large/disk/out", "linked/out", "linked/photos/out"])
def test_paths_hold_where_folders_are_links(out, images, tmp_path, monkeypatch):
    """For instance if results are on another disk, to which the home folder links."""
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
    """For instance in a content-addressed store."""
    (tmp_path / "8f3e").write_text("x")
    (tmp_path / "a.png").symlink_to(tmp_path / "8f3e")
    face = LandmarkedFace(tmp_path / "a.png", (9, 9), (0, 0, 9, 9), np.ones((1, 2)), np.ones(1), None, np.zeros((2, 3)))
    write_csv(tmp_path / "l.csv", [face], ["a"], tmp_path)
    assert (tmp_path / "l.csv").read_text().splitlines()[1].startswith("a.png,")


def test_two_faces_of_one_image_and_one_of_another(tmp_path):
    def face(name, box, points):
        image = tmp_path / name
        return LandmarkedFace(image, (9, 7), box, np.array(points), np.array([0.25, 0.5]), None, np.zeros((2, 3)))

    faces = [
        face("b.png", (0, 0.5, 9, 7), [[1, 2], [4, 6]]),
        face("b.png", (1, 2, 3, 4), [[0, 0], [0, 0.123456]]),
        face("a.png", (0, 0, 2, 8), [[3.5, 0], [3.5, 2]]),
    ]
    names, pairs = ["eye", "nose"], {"long": ("eye", "nose")}
    write_csv(tmp_path / "l.csv", faces, names, tmp_path)
    assert (tmp_path / "l.csv").read_bytes().decode().split("\n") == [
        "file,left,top,width,height,eye_x,eye_y,eye_confidence,nose_x,nose_y,nose_confidence",
        "b.png,0,0.5,9,7,1.0000,2.0000,0.2500,4.0000,6.0000,0.5000",
        "b.png,1,2,3,4,0.0000,0.0000,0.2500,0.0000,0.1235,0.5000",
        "a.png,0,0,2,8,3.5000,0.0000,0.2500,3.5000,2.0000,0.5000",
        "",
    ]
    for scale, head, found in ((None, "long_px", "5.0000 0.1235 2.0000"), (0.5, "long_mm", "2.5000 0.0617 1.0000")):
        write_distances(tmp_path / "d.csv", faces, names, pairs, scale, tmp_path)
        lines = [line.split(",") for line in (tmp_path / "d.csv").read_text().splitlines()]
        assert [line[-1] for line in lines] == [head, *found.split()]
        assert lines[0][:5] == ["file", "left", "top", "width", "height"]
    write_coco(tmp_path / "l.json", faces, names, [0, 1], tmp_path)
    content = json.loads((tmp_path / "l.json").read_text())
    assert content["images"] == [
        {"id": number, "file_name": name, "width": 9, "height": 7} for number, name in ((1, "b.png"), (2, "a.png"))
    ]
    assert content["categories"] == [{"id": 1, "name": "face", "keypoints": names, "flip_index": [0, 1]}]
    assert [(each["id"], each["image_id"], each["area"]) for each in content["annotations"]] == [
        (1, 1, 63),
        (2, 1, 12),
        (3, 2, 16),
    ]
    assert content["annotations"][1] == {
        **{"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
        **{"num_keypoints": 2, "keypoints": [0, 0, 2, 0, 0.1235, 2], "keypoint_scores": [0.25, 0.5], "score": 0.375},
    }
