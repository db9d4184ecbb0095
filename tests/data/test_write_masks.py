"""Sets of synthetic faces with part masks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from xtask_reg.data import synthetic
from xtask_reg.data.synthetic import pictures, write_masks, write_segmentation_set

PEOPLE = [4, 9]


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_masks_and_images_are_what_is_drawn(tmp_path: Path) -> None:
    index = write_segmentation_set(tmp_path, PEOPLE, 2, 48, seed=3, split="val")
    content = json.loads(index.read_text())
    assert index == tmp_path / "val.json"
    assert content["classes"] == list(synthetic.PART_NAMES)
    assert [image["identity"] for image in content["images"]] == [4, 4, 9, 9]
    for number, image in enumerate(content["images"]):
        view = synthetic.View.from_seed(synthetic.view_seed(3, image["identity"], number % 2))
        face = synthetic.render(synthetic.Identity.from_seed(image["identity"]), view, 48)
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / image["file_name"])), face.image)
        with Image.open(tmp_path / image["mask"]) as mask:
            assert mask.mode == "L"
            np.testing.assert_array_equal(np.array(mask), face.mask)
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / image["mask"]), cv2.IMREAD_UNCHANGED), face.mask)
        assert (image["width"], image["height"]) == (48, 48)
    assert len(files(tmp_path)) == 1 + 2 * len(content["images"])


def test_pictures_are_those_of_the_landmark_set(tmp_path: Path) -> None:
    write_segmentation_set(tmp_path / "masks", PEOPLE, 1, 32, seed=5)
    synthetic.write_landmark_set(tmp_path / "points", PEOPLE, 1, 32, seed=5)
    pictures = [
        {name: data for name, data in files(tmp_path / each).items() if "images/" in name}
        for each in ("masks", "points")
    ]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 2


def test_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        write_segmentation_set(tmp_path / folder, PEOPLE, 1, 32)
    assert files(tmp_path / "one") == files(tmp_path / "other")


def test_an_interrupted_run_leaves_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = write_segmentation_set(tmp_path, PEOPLE, 1, 32)
    calls = []

    def fails(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        pictures.replace_file(*arguments)

    monkeypatch.setattr(write_masks, "replace_file", fails)
    with pytest.raises(KeyboardInterrupt):
        write_segmentation_set(tmp_path, PEOPLE, 1, 32)
    assert not index.exists()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1, 32), "people is empty"),
        (([1, 1], 1, 32), "different"),
        (([1], 0, 32), "images_per_person"),
        (([1], 1, 16), "size"),
        (([1], 1, 32, -1), "seed"),
        (([1], 1, 32, 0, "a/b"), "plain name"),
        (([1], 1, 32, 0, ""), "plain name"),
    ],
)
def test_bad_sets_are_refused_before_anything_is_written(tmp_path: Path, arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_segmentation_set(tmp_path / "set", *arguments)
    assert not (tmp_path / "set").exists()
