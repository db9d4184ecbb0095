"""Crops compared with analytic geometry, and unusual images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from xtask_reg.data.conversion.crops import Square
from xtask_reg.data.images import read_image


def blob(width, height, centre, sigma):
    """A bright Gaussian dot on black; ``centre`` is real-valued, pixel centres are at whole numbers."""
    y, x = np.mgrid[:height, :width]
    values = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    return np.repeat(values.round().astype(np.uint8)[..., None], 3, axis=2)


def centroid(image):
    values = image[..., 0].astype(float)
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    return np.array([(values * x).sum(), (values * y).sum()]) / values.sum()


WHERE = {
    "middle": [(301.3, 222.7), (402.1, 331.2), (350.5, 240.25), (320, 300)],
    "top left corner": [(20.4, 21.7), (300.2, 60.1), (40.9, 320.3), (150, 150)],
    "bottom right corner": [(778.6, 577.3), (500.3, 400), (600, 570.2), (770.7, 350)],
    "wide, both borders": [(61.5, 300.3), (738.2, 310), (400, 290.6), (500, 320)],
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("size", [64, 256, 1000])
@pytest.mark.parametrize("dot", range(4))
def test_points_stay_on_what_they_mark(save, table_of, convert, read, tmp_path, where, size, dot):
    """A dot drawn at a landmark is found, to a tenth of a pixel, where the written file says."""
    points = WHERE[where]
    span = np.ptp(points, axis=0).max()
    save(tmp_path / "a.png", blob(800, 600, points[dot], sigma=max(3, span / size)))
    convert(table_of(tmp_path, ["a.png"], [points]), tmp_path / "out", size=size)
    (image,), written = read(tmp_path / "out/train.json")
    crop = cv2.imread(str(tmp_path / "out" / image["file_name"]))
    assert crop.shape == (size, size, 3)
    assert (image["width"], image["height"]) == (size, size)
    np.testing.assert_allclose(centroid(crop), written[0, dot, :2], rtol=0, atol=0.1)
    left, top, side = image["crop"]
    np.testing.assert_allclose(
        written[0, :, :2], (np.array(points) - (left, top) + 0.5) * size / side - 0.5, rtol=0, atol=1e-4
    )
    assert (written[..., 2] == 2).all()


@pytest.mark.parametrize("margin", [0, 0.1, 0.25, 1])
@pytest.mark.parametrize("seed", range(5))
def test_square_is_about_the_landmarks(margin, seed):
    points = np.random.default_rng(seed).uniform(-50, 900, (7, 2))
    square = Square.around(points, margin)
    low, high = points.min(axis=0), points.max(axis=0)
    assert 1 <= square.side - (high - low).max() * (1 + 2 * margin) < 2
    middle = np.array([square.left, square.top]) + (square.side - 1) / 2
    assert np.abs(middle - (low + high) / 2).max() <= 0.5
    inside = square.transform(points, 100)
    assert inside.min() >= -0.5
    assert inside.max() <= 99.5


@pytest.mark.parametrize(("width", "height", "place"), [(300, 200, (0, -50)), (200, 301, (-51, 0)), (64, 64, (0, 0))])
@pytest.mark.parametrize("size", [64, 256])
def test_the_whole_image(save, table_of, convert, read, tmp_path, width, height, place, size):
    """In the middle of a square with black beside it, points on what they mark."""
    points = np.array([(30.4, 25.3), (50.2, 48.7)])
    save(tmp_path / "a.png", blob(width, height, points[1], sigma=4) // 2 + 60)
    convert(table_of(tmp_path, ["a.png"], [points]), tmp_path / "out", size=size, crop="whole")
    (entry,), written = read(tmp_path / "out/train.json")
    scale = size / max(width, height)
    assert entry["crop"] == [*place, max(width, height)]
    crop = cv2.imread(str(tmp_path / "out" / entry["file_name"])).astype(int)
    np.testing.assert_allclose(written[0, :, :2], (points - place + 0.5) * scale - 0.5, atol=1e-4)
    np.testing.assert_allclose(centroid((crop - 60).clip(0)), written[0, 1, :2], atol=0.1)
    seen = crop[..., 0] > 30
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    assert [columns[0], rows[0]] == pytest.approx([-scale * start for start in place], abs=1)
    assert [len(columns), len(rows)] == pytest.approx([width * scale, height * scale], abs=2)
    assert (crop[: max(rows[0] - 1, 0)] == 0).all()
    assert (crop[:, : max(columns[0] - 1, 0)] == 0).all()


def test_points_that_are_not_annotated_are_zero_and_outside_of_the_crop(noise, save, table_of, convert, read, tmp_path):
    save(tmp_path / "a.png", noise(400, 400))
    annotated = np.array([[True, False, True]])
    table = table_of(tmp_path, ["a.png"], [[(200, 200), (0, 0), (240, 280)]], annotated=annotated)
    summary = convert(table, tmp_path / "out", margin=0.5)
    (image,), written = read(tmp_path / "out/train.json")
    assert image["crop"] == [140, 160, 161]
    assert written[0, 1].tolist() == [0, 0, 0]
    assert written[0, :, 2].tolist() == [2, 0, 2]
    assert summary.unannotated == 1


def test_margin_widens_the_crop(noise, save, table_of, convert, read, tmp_path):
    save(tmp_path / "a.png", noise(400, 400))
    table = table_of(tmp_path, ["a.png"], [[(100, 100), (200, 150)]])
    sides = []
    for margin in (0, 0.25, 1):
        convert(table, tmp_path / f"out{margin}", margin=margin)
        sides.append(read(tmp_path / f"out{margin}/train.json")[0][0]["crop"][2])
    assert sides == [101, 151, 301]


def test_beyond_the_border_the_last_pixel_repeats():
    image = np.zeros((40, 50, 3), np.uint8)
    image[...] = np.arange(50)[None, :, None] * 4 + 10
    crop = Square(left=-30, top=-10, side=60).cut(image, 60)
    np.testing.assert_array_equal(crop[:, :30], 10)
    np.testing.assert_array_equal(crop[:, 30:], image[:1, :30].repeat(60, axis=0))
    low = Square(left=20, top=30, side=60).cut(image, 60)
    np.testing.assert_array_equal(low[:, 29:], 10 + 4 * 49)


def test_shrinking_does_not_alias():
    """Fine stripes become uniform grey; picking single pixels would show one colour of them."""
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[:, np.arange(800) % 8 // 2 % 3 > 0] = 200
    crop = Square(0, 0, 800).cut(stripes, 100)
    assert np.abs(crop.astype(int) - 100).max() <= 1


def test_a_crop_of_its_own_size_is_the_image(noise):
    image = noise(64, 64)
    np.testing.assert_array_equal(Square(0, 0, 64).cut(image, 64), image)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exif_orientation_is_applied_and_reported(save, table_of, convert, read, tmp_path, suffix):
    """Orientation 6: what is stored in the top right corner is shown in the bottom right one."""
    stored = np.zeros((200, 300, 3), np.uint8)
    stored[10:40, 250:290] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / f"a{suffix}", exif=exif)
    save(tmp_path / "b.png", blob(200, 300, (175, 270), 5))
    shown = (200 - 1 - 24.5, 269.5)
    points = [[shown, (20, 30)]] * 2
    summary = convert(table_of(tmp_path, [f"a{suffix}", "b.png"], points), tmp_path / "out", size=150)
    (image, _), written = read(tmp_path / "out/train.json")
    crop = cv2.imread(str(tmp_path / "out" / image["file_name"]))
    np.testing.assert_allclose(centroid(crop), written[0, 0, :2], rtol=0, atol=0.3)
    assert summary.notes[0].startswith("images turned upright by their EXIF orientation: 1")


def test_grey_16_bit_and_alpha(noise, save, tmp_path):
    grey = np.arange(64, dtype=np.uint8).repeat(64).reshape(64, 64)
    save(tmp_path / "grey.png", grey)
    save(tmp_path / "deep.png", grey.astype(np.uint16) * 256 + 255)
    colour = noise(64, 64)
    save(tmp_path / "alpha.png", np.dstack([colour, np.zeros((64, 64), np.uint8)]))
    for name in ("grey.png", "deep.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), colour)
