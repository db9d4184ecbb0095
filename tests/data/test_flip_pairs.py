"""Flip pairs against MMPose's own, and partners of landmarks on one side."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import numpy as np
import pytest

from xtask_reg.data.conversion.flip_pairs import BUILT_IN, built_in_flip, read_flip_pairs, with_mirrored


@pytest.mark.parametrize(("name", "config"), [("ibug68", "300w"), ("wflw98", "wflw")])
def test_built_in_pairs_are_those_of_mmpose(name, config):
    package = Path(importlib.util.find_spec("mmpose").origin).parent
    info = runpy.run_path(str(package / f".mim/configs/_base_/datasets/{config}.py"))["dataset_info"]["keypoint_info"]
    place = {entry["name"]: index for index, entry in info.items()}
    expected = tuple(place[info[index]["swap"]] if info[index]["swap"] else index for index in range(len(info)))
    assert BUILT_IN[name] == expected
    assert built_in_flip(name, len(expected)) == expected
    with pytest.raises(ValueError, match=f"for {len(expected)} landmarks; there are 14"):
        built_in_flip(name, 14)


@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "left,right\n", "sep=,\nleft,right\n", "sep=,\n"])
def test_flip_pairs(write, header, between):
    path = write("pairs.csv", f"{header}a,c\n\n d , b\n".replace(",", between))
    assert read_flip_pairs(path, ["a", "b", "c", "d", "e"]) == (2, 3, 0, 1, 4)


def test_landmarks_called_left_and_right(write):
    assert read_flip_pairs(write("pairs.csv", "left,right\n"), ["right", "left"]) == (1, 0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,x\n", r"line 1: no landmark \['x'\]; the landmarks are \['a', 'b', 'c'\]"),
        ("a,b\nb,c\n", r"line 2: \['b'\] already have a pair"),
        ("a,b\nb,a\n", "line 2: .* already have a pair"),
        ("a,a\n", "line 1: 'a' is paired with itself"),
        ("a,b,c\n", "line 1: .*expected the names of two"),
        ("a\n", "line 1: .*expected the names of two"),
        ("a,b\nleft,right\n", "line 2: no landmark"),
        ("", "is empty"),
    ],
)
def test_bad_flip_pairs(write, content, says):
    with pytest.raises(ValueError, match=says):
        read_flip_pairs(write("pairs.csv", content), ["a", "b", "c"])


@pytest.fixture
def four(table_of):
    """Two images with the landmarks a, b, c, d."""
    return table_of(Path(), ["0.png", "1.png"], np.arange(16).reshape(2, 4, 2), names=("a", "b", "c", "d"))


def test_mirrored_partners(four):
    table, flip = with_mirrored(four, (0, 2, 1, 3), ["d", "a"])
    assert table.names == ("a", "b", "c", "d", "d_mirrored", "a_mirrored")
    assert flip == (5, 2, 1, 4, 3, 0)
    assert table.annotated.tolist() == [[True] * 4 + [False] * 2] * 2
    np.testing.assert_array_equal(table.points[:, 4:], 0)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["x"], r"no landmark \['x'\] to mirror"),
        (["b"], r"\['b'\] already have a flip pair"),
        (["a", "a"], r"repeated: \['a_mirrored'\]"),
    ],
)
def test_bad_mirrors(four, names, says):
    with pytest.raises(ValueError, match=says):
        with_mirrored(four, (0, 2, 1, 3), names)
