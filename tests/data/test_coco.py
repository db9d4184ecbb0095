"""Reading names and flip pairs of landmarks from a COCO-style file."""

from __future__ import annotations

import copy
import json

import pytest

from xtask_reg.data.coco import check_landmark_file, landmark_names, read_subset

FILE = {
    "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 64, 64], "keypoints": [1, 2, 2, 3, 4, 2, 5, 6, 0]}
    ],
    "categories": [{"id": 1, "name": "face", "keypoints": ["left", "right", "nose"], "flip_index": [1, 0, 2]}],
}


@pytest.fixture
def write(tmp_path):
    def writer(content):
        path = tmp_path / "train.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return writer


def changed(where, value):
    """``FILE`` with the entry at the path ``where`` replaced, or removed where ``value`` is ``...``."""
    content = copy.deepcopy(FILE)
    *path, last = where
    entry = content
    for key in path:
        entry = entry[key]
    if value is ...:
        del entry[last]
    else:
        entry[last] = value
    return content


def test_a_good_file(write):
    path = write(FILE)
    check_landmark_file(path)
    names = landmark_names(path)
    assert names.names == ("left", "right", "nose")
    assert names.flip == (1, 0, 2)


def test_without_flip_index_nothing_swaps(write):
    assert landmark_names(write(changed(["categories", 0, "flip_index"], ...))).flip == (0, 1, 2)


def test_repeated_names_are_told_apart(write):
    content = changed(["categories", 0, "keypoints"], ["eye", "eye", "nose"])
    assert landmark_names(write(content)).names == ("eye (0)", "eye (1)", "nose")


def test_names_that_collide_even_so(write):
    with pytest.raises(ValueError, match="not unique"):
        landmark_names(write(changed(["categories", 0, "keypoints"], ["a", "a", "a (0)"])))


def test_selection_keeps_order_and_drops_half_pairs(write):
    chosen = landmark_names(write(FILE)).select([2, 1])
    assert chosen.names == ("nose", "right")
    assert chosen.flip == (0, 1)
    both = landmark_names(write(FILE)).select([1, 0])
    assert both.flip == (1, 0)


@pytest.mark.parametrize("indices", [[3], [-1], [0, 0], [], "01", [0.5]])
def test_bad_selection(write, indices):
    with pytest.raises(ValueError, match="between 0 and 2"):
        landmark_names(write(FILE)).select(indices)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no json", "not a JSON file"),
        pytest.param("[" * 100_000, "not a JSON file", id="deep"),
        ("[]", "expected a JSON object"),
        (changed(["images"], ...), "'images' is missing"),
        (changed(["annotations"], []), "'annotations' is missing or empty"),
        (changed(["categories"], ...), "'categories' is missing"),
        (changed(["categories", 0, "keypoints"], ...), "names of the landmarks"),
        *((changed(["images", 0, field], ...), rf"images\[0\] lacks \['{field}'\]") for field in FILE["images"][0]),
        *(
            (changed(["annotations", 0, field], ...), rf"annotations\[0\] lacks \['{field}'\]")
            for field in FILE["annotations"][0]
        ),
        (changed(["annotations", 0, "keypoints"], [1, 2, 2]), "3 keypoint values; expected 3 x 3"),
        (changed(["annotations", 0, "keypoints", 4], float("nan")), "not a finite number"),
        *(
            (changed(["annotations", 0, "keypoints", 4], value), "not a finite number")
            for value in ("4", None, float("inf"))
        ),
        (changed(["annotations", 0, "bbox"], [0, 0, 0, 64]), "positive sizes"),
        (changed(["annotations", 0, "bbox"], [0, 0, 64]), "expected"),
        (changed(["annotations", 0, "bbox"], None), r"annotations\[0\] lacks \['bbox'\]"),
        (changed(["annotations", 0, "keypoints"], "1 2 2"), "must be lists"),
        (changed(["annotations", 0, "image_id"], 7), r"not listed: image_id \[7\]"),
        (changed(["annotations", 0, "image_id"], "1"), r"not listed: image_id \['1'\]"),
        (changed(["annotations", 0, "keypoints", 5], -1), r"visibilities \[-1, 0, 2\]"),
        (changed(["annotations", 0, "keypoints", 5], 0.5), r"visibilities \[0, 0.5, 2\]"),
        (changed(["images", 0, "id"], "1"), "different whole numbers"),
        (
            changed(["images"], FILE["images"] * 2),
            r"ids of the images must be different .* repeated: \['1'\]",
        ),
        (changed(["annotations"], FILE["annotations"] * 2), r"ids of the annotations must be .* repeated: \['1'\]"),
        (changed(["annotations", 0, "id"], "1"), "ids of the annotations must be different whole numbers"),
        (changed(["annotations", 0, "category_id"], 2), r"category_id \[2\]; all must be of the first category, 1"),
        (changed(["categories", 0, "id"], ...), r"categories\[0\] has no 'id'"),
        (changed(["categories"], {"keypoints": ["a"]}), "'categories' is missing"),
        (changed(["categories", 0, "keypoints", 1], {"name": "right"}), "names of the landmarks"),
        (changed(["annotations", 0, "keypoints", 4], 10**400), "not a finite number"),
        (changed(["annotations", 0, "bbox", 2], 10**400), "not a finite number"),
        (changed(["annotations", 0, "image_id"], [1]), r"not listed: image_id \[\[1\]\]"),
        (changed(["annotations", 0, "image_id"], 10**400), "not listed"),
        (changed(["images", 0, "file_name"], 7), r"images\[0\] has file_name 7, .*expected a text"),
        (changed(["images", 0, "width"], "64"), r"width and height \('64', 64\); expected a text and two numbers"),
        *(
            (changed(["images", 0, "mm_per_pixel"], size), "expected a number above 0, or no such field")
            for size in (0, -1, "0.1", None)
        ),
        (changed(["images", 0, "height"], float("nan")), r"\(64, nan\); expected a text and two numbers"),
    ],
)
def test_bad_files(write, content, says):
    path = write(content)
    with pytest.raises(ValueError, match=says) as error:
        check_landmark_file(path)
    assert str(path) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="train.json"):
        check_landmark_file(tmp_path / "train.json")


def test_subset(tmp_path):
    path = tmp_path / "subsets.json"
    path.write_text(json.dumps({"eyes": {"index": [0, 1]}, "broken": {}}))
    assert read_subset(path, "eyes") == [0, 1]
    for name in ("lips", "broken"):
        with pytest.raises(ValueError, match=f"no subset '{name}'"):
            read_subset(path, name)


@pytest.mark.parametrize("flip", [7, "102", {"0": 1}, [1, 0], [1, 2, 0], [1, 0, 5], [1, 0, "2"]])
def test_flip_index_that_is_no_list_of_mutual_pairs(write, flip):
    with pytest.raises(ValueError, match="flip_index must pair the 3 landmarks mutually"):
        landmark_names(write(changed(["categories", 0, "flip_index"], flip)))
