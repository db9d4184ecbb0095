"""Distances between named landmarks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xtask_reg.landmarks.distances import check_distances, distances, parse_distances

NAMES = ("a", "b", "c")
POINTS = np.array([[0, 0], [3, 4], [3, 16]])


def test_distances():
    pairs = {"short": ("a", "b"), "long": ("c", "b"), "none": ("a", "a")}
    assert distances(POINTS, NAMES, pairs) == {"short": 5.0, "long": 12.0, "none": 0.0}
    assert distances(POINTS, NAMES, pairs, scale=0.1) == pytest.approx({"short": 0.5, "long": 1.2, "none": 0.0})


def test_texts_and_files(tmp_path):
    (tmp_path / "pairs.json").write_text(json.dumps({"x=y": ["a", "b"], "lip": ["b", "c"]}))
    parsed = parse_distances(["fissure=a:c", str(tmp_path / "pairs.json")])
    assert parsed == {"fissure": ("a", "c"), "x=y": ("a", "b"), "lip": ("b", "c")}
    assert parse_distances([]) == {}


def test_a_file_in_a_folder_with_an_equals_sign(tmp_path):
    (tmp_path / "lr=0.1").mkdir()
    (tmp_path / "lr=0.1/pairs.json").write_text(json.dumps({"lip": ["b", "c"]}))
    assert parse_distances([f"{tmp_path}/lr=0.1/pairs.json", "jaw=a:b"]) == {"lip": ("b", "c"), "jaw": ("a", "b")}


@pytest.mark.parametrize("text", ["n=a", "=a:b", "n=a:", "n=:b", "n=a:b:c"])
def test_bad_texts(text):
    with pytest.raises(ValueError, match="expected NAME=LANDMARK:LANDMARK"):
        parse_distances([text])


@pytest.mark.parametrize(
    "content", ["", "[1]", "{}", pytest.param("[" * 10**5, id="deep"), '{"n": ["a"]}', '{"n": "ab"}', '{"n": ["a", 1]}']
)
def test_bad_files(content, tmp_path):
    (tmp_path / "pairs.json").write_text(content)
    with pytest.raises(ValueError, match=r'pairs.json: expected \{"NAME": \["LANDMARK", "LANDMARK"\], ...\}'):
        parse_distances([str(tmp_path / "pairs.json")])


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.json is no file"):
        parse_distances([str(tmp_path / "none.json")])
    with pytest.raises(ValueError, match="'n' is given twice"):
        parse_distances(["n=a:b", "n=b:c"])
    with pytest.raises(ValueError, match="'n' needs the landmark 'd'; known: a, b, c"):
        check_distances({"n": ("a", "d")}, NAMES)
    with pytest.raises(FileNotFoundError, match="none is no file"):
        parse_distances([str(tmp_path / "none")])
    with pytest.raises(ValueError, match="'n' needs the landmark 'd'"):
        distances(POINTS, NAMES, {"n": ("a", "d")})
    with pytest.raises(ValueError, match="shorter"):
        distances(POINTS[:2], NAMES, {})
    for scale in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"scale={scale}"):
            distances(POINTS, NAMES, {}, scale)
