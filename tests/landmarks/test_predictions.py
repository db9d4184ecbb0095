"""The file of predictions, and the table made from it."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from xtask_reg.landmarks.predictions import Predictions, markdown_table, read_predictions


def predictions(errors) -> Predictions:
    count = len(errors)
    points = np.arange(count * 4, dtype=float).reshape(count, 2, 2)
    visible = np.array([[True, False]] * count)
    names = [f"{number}.png" for number in range(count)]
    return Predictions(names, points, points + 1, visible, np.array(errors), "mean_distance", "heatmap", 1.2)


def test_written_and_read(tmp_path):
    path = tmp_path / "new" / "predictions.json"
    written = predictions([0.5, np.nan, 2.0])
    written.write(path)
    assert list(path.parent.iterdir()) == [path]
    assert json.loads(path.read_text())["images"][1]["error"] is None
    read = read_predictions(path)
    for field in ("predicted", "target", "visible", "errors"):
        np.testing.assert_array_equal(getattr(read, field), getattr(written, field))
    assert (read.images, read.space, read.threshold) == (written.images, "heatmap", 1.2)
    assert (read.scores.me, read.scores.fr, read.scores.skipped) == (1.25, 0.5, 1)


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
    text = markdown_table({"FT": predictions([0.6, 1.2, 1.8]).scores}, {"FT": 12.4})
    assert "| FT | 1.200 ± 0.600 | 33.33 % | 0.167 | 12 |" in text
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
        (("images", 0, "error"), -0.5),
        (("images", 0, "error"), "small"),
        (("images", 0, "error"), 10**400),
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
    """Written by hand, or for the results of another program."""
    path = tmp_path / "predictions.json"
    predictions([0.5, 2.0]).write(path)
    content = json.loads(path.read_text())
    *keys, last = place
    functools.reduce(lambda entry, key: entry[key], keys, content)[last] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"predictions.json is no file of predictions"):
        read_predictions(path)
