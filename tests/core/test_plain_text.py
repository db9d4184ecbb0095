"""Runs, terms and files may have any name; pictures show names literally."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from xtask_reg.cli import main
from xtask_reg.landmarks.plots import plot_ced
from xtask_reg.measuring.plots import plot_measurements
from xtask_reg.plain_text import printable

NAMES = ["_ft", "lr$a$", "$\\foo$", "50%_a"]


def texts(figure: Figure) -> set[str]:
    """The texts of a figure, drawn as when it is saved."""
    figure.savefig(io.BytesIO(), format="png")
    shown = {text.get_text() for text in figure.findobj(Text)}
    parsed = {text: Text(text=text)._preprocess_math(text) for text in shown}
    assert not any(is_math for _, is_math in parsed.values())
    return {plain.strip() for plain, _ in parsed.values()}


@pytest.mark.parametrize("name", NAMES)
def test_runs(name):
    shown = texts(plot_ced({name: np.array([0.1, 0.5]), "other": np.array([0.2, 0.3])}))
    assert [text for text in shown if text.startswith(f"{name}\n")]


@pytest.mark.parametrize("name", NAMES)
def test_terms(name):
    points = [(1, 0.5), (2, 0.6)]
    figure = plot_measurements({name: {"cosine": {f"{name}2": points}}})
    assert {name, f"{name}2"} <= texts(figure)


STEERING = "\x1b]0;owned\x07\x1b[2J\nall is well\u202e"


def test_printable():
    assert printable("Müller 3 µm, 中") == "Müller 3 µm, 中"
    assert printable(STEERING) == r"\x1b]0;owned\x07\x1b[2J\nall is well\u202e"


def csv_with(file: str = "a.png", name: str = "a", more: str = "more") -> str:
    return f'file,"{name}_x","{name}_y",b_x,b_y,"{more}"\n"{file}",8,8,30,30,1\n'


@pytest.mark.parametrize("part", ["file", "name", "more"])
def test_texts_of_a_table_do_not_steer_the_terminal(part, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "white").save("a.png")
    Path("a.csv").write_text(csv_with(**{part: STEERING}))
    main(["convert-landmarks", "a.csv", "--out", "out", "--split", "1", "0", "0"])
    assert printable(STEERING) in said(capsys).replace("\n", r"\n")


def test_texts_of_a_landmark_file_do_not_steer_the_terminal(tmp_path, capsys):
    image = {"id": 1, "file_name": STEERING, "width": 64, "height": 64}
    face = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 64, 64], "keypoints": [99, 1, 2]}
    content = {"images": [image], "annotations": [face], "categories": [{"id": 1, "keypoints": ["a"]}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert main(["check-data", str(tmp_path / "a.json")]) == 1
    assert printable(STEERING) in said(capsys)


def test_names_in_a_log_do_not_steer_the_terminal(tmp_path, monkeypatch, capsys):
    (tmp_path / "log.json").write_text(json.dumps({"iter": 1, f"cosine/{STEERING}": 0.5}) + "\n")
    assert main(["plot-source", str(tmp_path / "log.json"), "--out", str(tmp_path / "a.png")]) == 0
    assert printable(STEERING) in said(capsys)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The printed text, which must not contain control characters."""
    printed = "".join(capsys.readouterr())
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)
    return printed
