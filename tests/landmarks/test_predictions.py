"""The file of predictions, and the table made from it."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from xtask_reg.landmarks.predictions import Predictions, Reading, markdown_table, read_predictions

pytestmark = pytest.mark.filterwarnings("error")


def predictions(errors) -> Predictions:
    """Images whose first landmark is 5 pixels off, scaled so that this is the error; NaN if none is visible."""
    count, known = len(errors), ~np.isnan(errors)
    points = np.arange(count * 4, dtype=float).reshape(count, 2, 2)
    visible = np.stack([known, np.zeros(count, dtype=bool)], axis=1)
    scale = np.where(known, np.nan_to_num(errors, nan=1) / 5, 1)[:, None].repeat(2, axis=1)
    names = [f"{number}.png" for number in range(count)]
    reading = Reading("mean_distance", "heatmap", 1.2, [0.5, 2], [64, 48.5])
    return Predictions(names, ["eye", "nose"], points, points + [3, 4], visible, scale, reading)


def test_written_and_read(tmp_path):
    path = tmp_path / "new" / "folder" / "predictions.json"
    written = predictions([0.5, np.nan, 2.0])
    written.write(path)
    assert list(path.parent.iterdir()) == [path]
    assert [image["error"] for image in json.loads(path.read_text())["images"]] == [0.5, None, 2.0]
    read = read_predictions(path)
    for field in ("predicted", "target", "visible", "scale", "errors"):
        np.testing.assert_array_equal(getattr(read, field), getattr(written, field))
    assert (read.images, read.landmarks, read.reading) == (written.images, ["eye", "nose"], written.reading)
    assert (read.scores.me, read.scores.fr, read.scores.skipped) == (1.25, 0.5, 1)
    assert read.success_rates == {0.5: 0.5, 2.0: 1.0}
    assert read.reading.unit == "heatmap px (64 x 48.5)"


def test_landmarks_by_hand():
    """Each in the unit of its own image, over the images that show it."""
    target = np.zeros((3, 3, 2))
    predicted = target + [[[3, 4], [0, 2], [9, 9]], [[6, 8], [0, 4], [9, 9]], [[0, 1], [50, 0], [9, 9]]]
    visible = np.array([[True, False, False], [False, True, False], [True, False, False]])
    scale = np.array([[1, 1], [0.5, 0.5], [1, 4]])
    reading = Reading("mean_distance", "mm", 1.2)
    found = Predictions(["a", "b", "c"], ["eye", "nose", "lip"], predicted, target, visible, scale, reading)
    eye, nose, lip = found.by_landmark
    assert (eye.name, eye.mean, eye.images) == ("eye", 4.5, 2)
    assert eye.sd == pytest.approx(math.sqrt(0.5))
    assert (nose.mean, nose.images, lip.images) == (2, 1, 0)
    assert np.isnan([nose.sd, lip.mean, lip.sd]).all()


@pytest.mark.parametrize("text", ["", "[]", '{"images": [{"image": "a.png"}]}', '{"images": []}'])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "predictions.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="predictions.json"):
        read_predictions(path)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        read_predictions(Path("nowhere.json"))


def test_table_states_numbers_and_reading():
    text = markdown_table({"FT": predictions([0.5, 1.0, 2.0]).scores}, {"FT": 12.4})
    assert "| FT | 1.167 ± 0.764 | 33.33 % | 0.250 | 12 |" in text
    assert "mean distance in heatmap px" in text
    assert "above 1.2" in text


def test_scores_of_none_are_refused_with_the_file(tmp_path):
    predictions([np.nan]).write(tmp_path / "predictions.json")
    with pytest.raises(ValueError, match="predictions.json .*no image to score"):
        read_predictions(tmp_path / "predictions.json")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("threshold",), "1.2"),
        (("threshold",), -1),
        (("space",), "screen"),
        (("reduction",), ["mean_distance"]),
        (("success_at",), [0]),
        (("success_at",), "2"),
        (("extent",), [64]),
        (("extent",), [64, 0]),
        (("extent",), "64"),
        (("extent",), 64),
        (("landmarks",), ["eye"]),
        (("images", 0, "scale"), [1]),
        (("images", 0, "scale"), [1, 0]),
        (("images", 0, "scale"), ["wide", 1]),
        (("images", 0, "scale"), [10**400, 1]),
        (("images", 0, "predicted"), [[1, 2]]),
        (("images", 0, "predicted", 0, 1), float("nan")),
        (("images", 0, "target", 0, 0), float("inf")),
        (("images", 0, "target", 0, 0), 10**400),
        (("images", 0, "visible"), [1, 0]),
        (("images", 0), [1, 2]),
        (("images",), {"a": 1}),
    ],
)
def test_numbers_that_cannot_be_are_refused_with_the_file(tmp_path, place, value):
    """As in a file written by hand, or by another program."""
    path = tmp_path / "predictions.json"
    predictions([0.5, 2.0]).write(path)
    content = json.loads(path.read_text())
    *keys, last = place
    functools.reduce(lambda entry, key: entry[key], keys, content)[last] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"predictions.json is not a predictions file"):
        read_predictions(path)


def test_a_deep_file_is_refused_by_name(tmp_path):
    (tmp_path / "predictions.json").write_text("[" * 10**5)
    with pytest.raises(ValueError, match=r"predictions.json is not a predictions file"):
        read_predictions(tmp_path / "predictions.json")
