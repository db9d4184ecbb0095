"""Conversion: what is written and refused, and that nothing half-written remains."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from xtask_reg.data.conversion.convert import file_names


def test_file_names_are_plain_and_different():
    files = [
        "a/b.png",
        "a_b.png",
        "A/B.jpg",
        "../x y/ü.png",
        "x_y.tif",
        ".hidden.png",
        "/deep/a.b.png",
        "c" * 300,
        "ü.png",
    ]
    names = file_names(files)
    assert names[:2] == ["images/a_b.png", "images/a_b_2.png"]
    assert names[-1] == "images/image.png"
    assert len({name.lower() for name in names}) == len(files)
    for name in names:
        folder, file = name.split("/")
        assert folder == "images"
        assert len(file) < 120
        assert set(file.removesuffix(".png")) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def test_notes_of_dark_images_and_of_what_is_no_landmark(noise, save, table_of, convert, tmp_path):
    for name, scale in (("a", 256), ("b", 16), ("c", 16)):  # 16 bits, and two with 12 bits in 16
        save(tmp_path / f"{name}.png", noise(100, 80).astype(np.uint16) * scale)
    files, points = ["a.png", "b.png", "c.png"], [[(10, 20 + k), (50, 40), (0.3, 0.3)] for k in range(3)]
    table = table_of(tmp_path, files, points, annotated=np.array([[True] * 3, [True, False, True], [True] * 3]))
    dark, still = convert(table, tmp_path / "out").notes
    assert dark.startswith("images that are nearly black: 2; 12-bit data in 16 bits?")
    assert still.startswith("the same position in all images: p2; ")


def test_one_image_says_nothing_of_moving(noise, save, table_of, convert, tmp_path):
    save(tmp_path / "a.png", noise(100, 80))
    assert not convert(table_of(tmp_path, ["a.png"], [[(10, 20), (50, 40)]]), tmp_path / "out").notes


@pytest.mark.parametrize("crop", ["landmarks", "whole"])
def test_how_large_a_pixel_of_the_crop_is(noise, save, table_of, convert, read, tmp_path, crop):
    """The distance of two points is the same in mm before and after."""
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name, noise(300, 200))
    points = np.array([[(10, 20), (50, 40)], [(100, 20), (200, 140)], [(5, 5), (9, 9)]])
    annotated = np.array([[True, True], [True, True], [False, False]])
    sizes = (0.1, 0.4, 0.2)
    table = table_of(tmp_path, ["a.png", "b.png", "c.png"], points, annotated=annotated, mm_per_pixel=sizes)
    convert(table.labelled(), tmp_path / "out", size=64, crop=crop)
    images, written = read(tmp_path / "out/train.json")
    for image, before, after, size in zip(images, points, written[..., :2], sizes):
        assert image["mm_per_pixel"] * np.hypot(*(after[0] - after[1])) == pytest.approx(
            size * np.hypot(*(before[0] - before[1])), rel=1e-4
        )
    assert len(images) == 2


@pytest.mark.parametrize("size", [0, -0.1, float("nan"), float("inf")])
def test_a_pixel_without_size(table_of, tmp_path, size):
    with pytest.raises(ValueError, match=r"^b.png: mm_per_pixel .*; expected a number above 0"):
        table_of(tmp_path, ["a.png", "b.png"], [[(1, 2), (3, 4)]] * 2, mm_per_pixel=(0.1, size))


OUTLYING = [(-0.6, 50), (150.7, 50), (60, 40), (70.5, 100.2)]
"""In an image of 150 x 100: outside are the first, the second and the last."""


@pytest.mark.parametrize(
    ("outside", "expected", "visible"),
    [
        ("clip", [(0, 50), (149, 50), (60, 40), (70.5, 99)], [2, 2, 2, 2]),
        ("mask", [(60, 40), (90, 45)], [0, 0, 2, 0, 2]),
    ],
)
def test_landmarks_outside(noise, save, table_of, convert, read, tmp_path, outside, expected, visible):
    save(tmp_path / "a.png", noise(150, 100))
    points = OUTLYING if outside == "clip" else [*OUTLYING, (90, 45)]
    summary = convert(table_of(tmp_path, ["a.png"], [points]), tmp_path / "out", outside=outside)
    (image,), written = read(tmp_path / "out/train.json")
    left, top, side = image["crop"]
    assert written[0, :, 2].tolist() == visible
    seen = written[0, written[0, :, 2] > 0, :2]
    np.testing.assert_allclose(seen, (np.array(expected) - (left, top) + 0.5) * 256 / side - 0.5, rtol=0, atol=1e-3)
    assert summary.notes[0].endswith(": 3")
    assert summary.unannotated == visible.count(0)


def test_landmark_outside_is_an_error_that_tells_where(noise, save, table_of, convert, tmp_path):
    save(tmp_path / "a.png", noise(150, 100))
    for index, (x, y) in ((0, OUTLYING[0]), (1, OUTLYING[1]), (1, OUTLYING[3])):
        points = np.array([(10.0, 10), (20, 20), (140, 90)])
        points[index] = x, y
        says = (
            rf"a\.png: landmarks outside the image: 1, e\.g\. 'p{index}' at \({x}, {y}\); the image is 150 x 100 pixels"
        )
        with pytest.raises(ValueError, match=says):
            convert(table_of(tmp_path, ["a.png"], [points]), tmp_path / "out")


def test_landmarks_on_the_border_are_inside(noise, save, table_of, convert, tmp_path):
    save(tmp_path / "a.png", noise(150, 100))
    border = [(-0.5, -0.5), (0, 0), (149.5, 99.5), (150, 100)]
    assert not convert(table_of(tmp_path, ["a.png"], [border]), tmp_path / "out").notes


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def blacken(path, shape):
    path.write_bytes(cv2.imencode(path.suffix, np.zeros(shape, np.uint8))[1].tobytes())


BAD_IMAGES = {
    "missing": ("a.png", lambda path: path.unlink(), "does not exist"),
    "a folder": ("a.png", lambda path: (path.unlink(), path.mkdir()), "does not exist"),
    "empty": ("a.png", lambda path: path.write_bytes(b""), "cannot be decoded"),
    "text": ("a.png", lambda path: path.write_bytes(b"this is no image"), "cannot be decoded"),
    "PNG cut off": ("a.png", cut_off, "damaged or cut off"),
    "JPEG cut off": ("a.jpg", cut_off, "damaged or cut off"),
    "BMP cut off": ("a.bmp", cut_off, "damaged or cut off"),
    "TIFF cut off": ("a.tif", cut_off, "cannot be decoded|damaged or cut off"),
    "31 pixels wide": ("a.png", lambda path: blacken(path, (200, 31)), "is 31 x 200 pixels; expected at least 32"),
    "31 pixels high": ("a.png", lambda path: blacken(path, (31, 200)), "is 200 x 31 pixels; expected at least 32"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("fault", BAD_IMAGES)
def test_bad_images_are_named_together(noise, save, table_of, convert, tmp_path, fault):
    name, damage, says = BAD_IMAGES[fault]
    files = ["good.png", name, "gone.png"]
    for file in files[:2]:
        save(tmp_path / file, noise(200, 200))
    damage(tmp_path / name)
    table = table_of(tmp_path, files, [[(1, 1), (20, 30)]] * 3)
    with pytest.raises(ValueError, match=says) as caught:
        convert(table, tmp_path / "new/out")
    assert "2 of 3 images cannot be converted" in str(caught.value)
    assert name in str(caught.value)
    assert "gone.png" in str(caught.value)
    assert "good.png" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_long_list_of_faults_is_shortened(table_of, convert, tmp_path):
    table = table_of(tmp_path, [f"{number}.png" for number in range(33)], [[(1, 1), (20, 30)]] * 33)
    with pytest.raises(ValueError, match="33 of 33") as caught:
        convert(table, tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  ... and 13 more"


@pytest.mark.parametrize(
    ("points", "annotated"),
    [
        ([(0.2, 0.3), (0.7, 0.9)], [True, True]),
        ([(50, 50), (50, 50)], [True, True]),
        ([(50, 50), (90, 90)], [True, False]),
    ],
    ids=["fractions of the image", "one place", "one point"],
)
def test_landmarks_that_span_no_face(noise, save, table_of, convert, tmp_path, points, annotated):
    save(tmp_path / "a.png", noise(150, 100))
    table = table_of(tmp_path, ["a.png"], [points], annotated=np.array([annotated]))
    with pytest.raises(ValueError, match="annotated landmarks span .* pixels; a crop needs 4"):
        convert(table, tmp_path / "out")


def test_several_faces_of_a_whole_image(noise, save, table_of, convert, tmp_path):
    """Each face would have a copy of the same picture."""
    save(tmp_path / "a.png", noise(100, 100))
    table = table_of(tmp_path, ["a.png"] * 2, [[(10, 20), (30, 40)], [(50, 60), (80, 90)]])
    with pytest.raises(ValueError, match="^a.png has 2 faces.*--crop whole"):
        convert(table, tmp_path / "out", crop="whole")
    convert(table, tmp_path / "out")


def test_one_landmark_of_a_whole_image(noise, save, table_of, convert, read, tmp_path):
    """The crop does not depend on the landmark; coordinates as fractions of the image are still detected."""
    save(tmp_path / "a.png", noise(100, 100))
    convert(table_of(tmp_path, ["a.png"], [[(50, 20)]]), tmp_path / "out", size=100, crop="whole")
    assert read(tmp_path / "out/train.json")[1].tolist() == [[[50, 20, 2]]]
    with pytest.raises(ValueError, match="the 1 annotated landmarks span 0.7 pixels.*not fractions of the image"):
        convert(table_of(tmp_path, ["a.png"], [[(0.5, 0.7)]]), tmp_path / "other", crop="whole")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 31}, "size 31 must be at least 32"),
        ({"margin": -0.1}, "margin -0.1 between 0 and 10"),
        ({"margin": float("nan")}, "margin nan between 0 and 10"),
        ({"flip": (1, 2, 0)}, "flip must pair the 3 landmarks mutually"),
        ({"flip": (0, 1)}, "flip must pair the 3 landmarks mutually"),
        ({"splits": ["train"]}, "one for each of 2 images, got 1"),
        ({"splits": ["train", "valid"]}, "splits must be train, val, test"),
    ],
)
def test_bad_options(noise, save, table_of, convert, tmp_path, options, says):
    for name in ("a.png", "b.png"):
        save(tmp_path / name, noise(100, 100))
    table = table_of(tmp_path, ["a.png", "b.png"], [[(10, 10), (20, 40), (30, 10)]] * 2)
    with pytest.raises(ValueError, match=says):
        convert(table, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def simple(noise, save, table_of, tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", noise(100, 100, number))
    return table_of(tmp_path, [f"{number}.png" for number in range(3)], [[(10, 10), (20, 40)]] * 3)


@pytest.mark.parametrize("occupied", ["out/file", "out"])
def test_an_existing_folder_is_refused(convert, simple, tmp_path, occupied):
    (tmp_path / occupied).parent.mkdir(exist_ok=True)
    (tmp_path / occupied).write_text("precious")
    with pytest.raises(FileExistsError, match="out exists and is not an empty folder"):
        convert(simple, tmp_path / "out")
    assert (tmp_path / occupied).read_text() == "precious"


def test_an_empty_folder_is_filled(convert, simple, tmp_path):
    (tmp_path / "out").mkdir()
    convert(simple, tmp_path / "out")
    assert (tmp_path / "out/train.json").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupted_nothing_stays(convert, simple, tmp_path, monkeypatch, error):
    encode, calls = cv2.imencode, []

    def fail_at_the_second(extension, image):
        calls.append(extension)
        if len(calls) == 2:
            raise error
        return encode(extension, image)

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(cv2, "imencode", fail_at_the_second)
    with pytest.raises(error):
        convert(simple, tmp_path / "new/deep/out")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_parent_that_cannot_be_written(convert, simple, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        convert(simple, tmp_path / "closed/out")


def test_same_input_same_bytes(convert, simple, tmp_path):
    convert(simple, tmp_path / "first")
    convert(simple, tmp_path / "second")
    first, second = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")}
        for out in (tmp_path / "first", tmp_path / "second")
    )
    assert first == second
    assert len(first) == 4
