"""Which faces of which images: folders of images, and boxes from a CSV file."""

from __future__ import annotations

import math
import unicodedata
from pathlib import Path

import pytest

from xtask_reg.data.faces import check_box, image_files, read_boxes
from xtask_reg.landmarks.faces import Face


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    for name in ("a/1.png", "a/2.JPG", "a/notes.txt", "a/deep/3.png", "b/1.png", "none/x.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_and_folders(folder):
    given = [Path("b/1.png"), Path("a"), Path("a/1.png"), Path("a/notes.txt")]
    assert image_files(given) == [Path(name) for name in ("b/1.png", "a/1.png", "a/2.JPG", "a/notes.txt")]


@pytest.mark.parametrize(("path", "error"), [("none", ValueError), ("a/9.png", FileNotFoundError)])
def test_no_images(path, error, folder):
    with pytest.raises(error, match=path):
        image_files([Path(path)])


def test_images_in_folders_within(folder):
    with pytest.raises(ValueError, match="itself has no image.*name the folders within it, such as .*/a$"):
        image_files([folder])
    with pytest.raises(ValueError, match=r"none itself has no image \([^;]*$"):
        image_files([Path("none")])


def write(text: str) -> Path:
    Path("boxes.csv").write_text("file,left,top,width,height\n" + text)
    return Path("boxes.csv")


def test_boxes_are_found_by_the_end_of_the_path(folder):
    images = [Path("a/1.png"), folder / "b/1.png", Path("a/2.JPG")]
    boxes = write(f"a/1.png,1,2,3,4\nb\\1.png,-5,0,6,7.5\n2.JPG,0,0,1,1\n{folder}/a/1.png,9,9,9,9\nother.png,0,0,5,5\n")
    assert read_boxes(boxes, images) == [
        Face(images[0], (1, 2, 3, 4)),
        Face(images[0], (9, 9, 9, 9)),
        Face(images[1], (-5, 0, 6, 7.5)),
        Face(images[2], (0, 0, 1, 1)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.png,0,0,5,5", r"line 2: 1.png fits a/1.png and b/1.png; add the folder"),
        ("a/1.png,0,0,5,5", "no box for 1 of 2 images, e.g. b/1.png"),
        ("a/1.png,0,0,0,5", "box 0 0 0 5: expected a width and height of at least 1"),
        ("a/1.png,0,0,x,5", "line 2, column width: 'x' is not a number"),
        ("a/1.png,0,0,5", "line 2: 4 cells; the header has 5"),
    ],
)
def test_bad_boxes(text, message, folder):
    with pytest.raises(ValueError, match=message):
        read_boxes(write(text + "\n"), [Path("a/1.png"), Path("b/1.png")])


def test_missing_column(folder):
    Path("boxes.csv").write_text("file,x,y\na/1.png,1,2\n")
    with pytest.raises(ValueError, match="the header lacks left, top, width, height"):
        read_boxes(Path("boxes.csv"), [])


def test_hidden_files_in_a_folder_are_no_images(folder):
    """macOS leaves ``._1.png`` beside ``1.png`` on disks of other systems."""
    (folder / "a/._1.png").write_bytes(b"Mac OS X")
    assert image_files([Path("a")]) == [Path("a/1.png"), Path("a/2.JPG")]
    assert image_files([Path("a/._1.png")]) == [Path("a/._1.png")]


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_accents_are_alike_however_they_are_written(folder, written, stored):
    names = {form: unicodedata.normalize(form, "Zoë/Müller.png") for form in ("NFC", "NFD")}
    image = Path(names[stored])
    assert read_boxes(write(f"{names[written]},1,2,3,4\n"), [image]) == [Face(image, (1, 2, 3, 4))]


@pytest.mark.parametrize("box", [(math.nan, 0, 5, 5), (0, -math.inf, 5, 5), (0, 0, math.inf, 5), (0, 0, 5, math.nan)])
def test_a_box_needs_finite_numbers(box):
    with pytest.raises(ValueError, match=r"box .*(nan|inf).*: expected .* finite numbers"):
        check_box(box)
