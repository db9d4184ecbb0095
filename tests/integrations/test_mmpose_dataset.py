"""LandmarkDataset: what it reads and refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmpose.registry import DATASETS

from xtask_reg.data.synthetic import FLIP_INDEX, LANDMARK_NAMES

COUNT = len(LANDMARK_NAMES)
Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def folder(landmarks, tmp_path) -> Path:
    """A copy of the shared landmark set that a test may damage."""
    return Path(shutil.copytree(landmarks, tmp_path / "set"))


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "val.json").read_text())


def edit(folder: Path, change: Edit) -> None:
    content = read(folder)
    change(content)
    (folder / "val.json").write_text(json.dumps(content))


def build(folder: Path, **arguments: Any) -> Any:
    arguments = {"pipeline": [], "data_root": str(folder), "ann_file": "val.json", **arguments}
    return DATASETS.build(dict(type="LandmarkDataset", **arguments))


def put(value: Any, *place: Any) -> Edit:
    def change(content: dict[str, Any]) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


def drop(*place: Any) -> Edit:
    def change(content: dict[str, Any]) -> None:
        for key in place[:-1]:
            content = content[key]
        del content[place[-1]]

    return change


def test_names_and_flip_pairs_come_from_the_file(folder):
    data = build(folder)
    assert len(data) == 4
    assert data.metainfo["num_keypoints"] == COUNT
    assert [data.metainfo["keypoint_id2name"][k] for k in range(COUNT)] == list(LANDMARK_NAMES)
    assert data.metainfo["flip_indices"] == list(FLIP_INDEX)
    assert data.metainfo["dataset_name"] == "face"


def test_points_box_and_visibility_are_those_of_the_file(folder):
    edit(folder, put([3.5, 2, 60, 50.25], "annotations", 1, "bbox"))
    edit(folder, put(0, "annotations", 1, "keypoints", 5))
    sample, annotation = build(folder)[1], read(folder)["annotations"][1]
    points = np.reshape(annotation["keypoints"], (COUNT, 3))
    np.testing.assert_allclose(sample["keypoints"][0], points[:, :2], rtol=1e-6)
    assert sample["keypoints_visible"][0].tolist() == [1, 0] + [1] * (COUNT - 2)
    assert sample["bbox"].tolist() == [[3.5, 2, 63.5, 52.25]]
    assert sample["img_path"] == str(folder / read(folder)["images"][1]["file_name"])


def test_flip_moves_and_swaps(folder):
    plain = build(folder)[0]["keypoints"][0]
    flipped = build(folder, pipeline=[dict(type="LoadImage"), dict(type="RandomFlip", prob=1.0)])[0]
    mirrored = np.stack([63 - plain[:, 0], plain[:, 1]], axis=1)
    np.testing.assert_allclose(flipped["keypoints"][0], mirrored[list(FLIP_INDEX)], rtol=1e-5)


@pytest.mark.parametrize(
    ("subset", "flip"),
    [([3, 0, 4], [1, 0, 2]), ([0, 4], [0, 1]), ([9, 10, 12, 11, 13], [1, 0, 2, 4, 3]), ((4,), [0])],
)
@pytest.mark.parametrize("named", [False, True])
def test_subset(folder, subset, flip, named):
    (folder / "subsets.json").write_text(json.dumps({"some": {"index": list(subset)}, "other": {"index": [1]}}))
    data = build(folder, subset=dict(file="subsets.json", name="some") if named else subset)
    everything = build(folder)
    np.testing.assert_array_equal(data[2]["keypoints"][0], everything[2]["keypoints"][0][list(subset)])
    assert list(data.metainfo["keypoint_id2name"].values()) == [LANDMARK_NAMES[k] for k in subset]
    assert data.metainfo["flip_indices"] == flip
    assert data.metainfo["dataset_keypoint_weights"].tolist() == [1] * len(subset)


@pytest.mark.parametrize(
    ("subset", "error", "match"),
    [
        ([14], ValueError, "between 0 and 13"),
        (dict(file="subsets.json", name="none"), ValueError, "no subset 'none'.*'some'"),
        (dict(file="missing.json", name="some"), FileNotFoundError, "missing.json"),
    ],
)
def test_bad_subset(folder, subset, error, match):
    (folder / "subsets.json").write_text('{"some": {"index": [0]}}')
    with pytest.raises(error, match=match):
        build(folder, subset=subset)


def test_other_metainfo_can_be_set(folder):
    assert build(folder, metainfo=dict(dataset_name="faces")).metainfo["dataset_name"] == "faces"


def test_splits_of_one_data_set_can_be_joined(folder):
    parts = [
        dict(type="LandmarkDataset", data_root=str(folder), ann_file=f"{split}.json", pipeline=[])
        for split in ("train", "val")
    ]
    joined = DATASETS.build(dict(type="ConcatDataset", datasets=parts))
    assert len(joined) == 8 + 4
    np.testing.assert_array_equal(joined[8]["keypoints"], build(folder)[0]["keypoints"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (drop("annotations", 2, "bbox"), r"annotations\[2\] lacks \['bbox'\]"),
        (put([1, *range(1, COUNT)], "categories", 0, "flip_index"), r"not mutual at indices \[0\]"),
    ],
)
def test_damaged_file(folder, change, match):
    """Other damage is tested in ``tests/data/test_coco.py``."""
    edit(folder, change)
    with pytest.raises(ValueError, match=match) as caught:
        build(folder)
    assert str(folder / "val.json") in str(caught.value)


def first_image(folder: Path) -> Path:
    return folder / read(folder)["images"][0]["file_name"]


@pytest.mark.parametrize("content", [None, b"", b"hello, this is a text"])
@pytest.mark.parametrize("test_mode", [False, True])
def test_no_image(folder, content, test_mode):
    """Found before anything is trained or tested."""
    image = first_image(folder)
    image.unlink()
    if content is not None:
        image.write_bytes(content)
    with pytest.raises(FileNotFoundError, match="1 of 4 images") as caught:
        build(folder, test_mode=test_mode)
    assert str(image) in str(caught.value)


def halved(image: Path) -> bytes:
    return image.read_bytes()[: image.stat().st_size // 2]


def zeroed(image: Path) -> bytes:
    content = bytearray(image.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(50)
    return bytes(content)


def header_only(image: Path) -> bytes:
    return cv2.imencode(".jpg", cv2.imread(str(image)))[1].tobytes()[:100]


@pytest.mark.parametrize("damage", [halved, zeroed, header_only])
def test_damaged_image_is_named_when_it_is_loaded(folder, damage):
    """The header is valid, so only decoding shows the damage; no other image replaces it."""
    image = first_image(folder)
    image.write_bytes(damage(image))
    data = build(folder, pipeline=[dict(type="LoadImage")])
    with pytest.raises(AssertionError, match="failed to load image") as caught:
        data[0]
    assert str(image) in str(caught.value)
    assert data[1]["img"].shape == (64, 64, 3)


def test_images_in_another_folder(folder):
    (folder / "images").rename(folder / "pictures")
    edit(folder, lambda content: [i.update(file_name=Path(i["file_name"]).name) for i in content["images"]])
    data = build(folder, data_prefix=dict(img="pictures/"), pipeline=[dict(type="LoadImage")])
    assert data[0]["img"].shape == (64, 64, 3)


def test_no_visible_landmark_at_all(folder):
    def hide(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["keypoints"] = [0, 0, 0] * len(LANDMARK_NAMES)

    edit(folder, hide)
    with pytest.raises(ValueError, match=r"val\.json has no annotation with a visible landmark"):
        build(folder)
