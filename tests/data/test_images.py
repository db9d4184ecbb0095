"""Reading images: EXIF orientation, and messages."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from xtask_reg.data.images import is_turned, read_image


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(10))
def test_turned_is_what_is_read_as_other_pixels_than_are_stored(orientation, suffix, noise, tmp_path):
    stored, file = noise(60, 40), tmp_path / f"a{suffix}"
    Image.fromarray(stored).save(file, exif=exif_of(orientation), lossless=True)
    assert is_turned(file) == (not np.array_equal(read_image(file)[..., ::-1], stored))
    assert is_turned(file) == (2 <= orientation <= 8)


BAD_EXIF = {
    "no header": b"Exif\x00\x00this is none",
    "nothing at all": b"Exif\x00\x00",
    "a header alone": b"Exif\x00\x00MM\x00*",
    "cut off": exif_of(6)[:-7],
    "a directory far outside": b"Exif\x00\x00MM\x00*\xff\xff\xff\xff",
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("fault", BAD_EXIF)
def test_exif_data_that_cannot_be_read_turn_nothing(fault, suffix, noise, tmp_path):
    file = tmp_path / f"a{suffix}"
    Image.fromarray(noise(60, 40)).save(file, exif=BAD_EXIF[fault])
    assert read_image(file).shape == (40, 60, 3)
    assert not is_turned(file)


def test_a_missing_image_is_seen_from_somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        read_image(Path("none/a.png"))
    assert str(caught.value) == f"the image none/a.png does not exist (relative to {tmp_path})"
    with pytest.raises(FileNotFoundError, match="a.png does not exist$"):
        read_image(tmp_path / "a.png")


def test_an_image_that_is_too_large_is_not_called_damaged(tmp_path):
    Image.new("1", (14000, 13000)).save(tmp_path / "scan.png")
    with pytest.raises(ValueError, match=r"scan\.png has too many pixels to be read at once: scale it down"):
        read_image(tmp_path / "scan.png")


def test_a_header_of_a_size_that_opencv_refuses(tmp_path, monkeypatch):
    """OpenCV raises its own kind of error."""
    monkeypatch.setattr("xtask_reg.data.images.check_whole", lambda path: None)
    (tmp_path / "a.png").write_bytes(b"P6\n2000000 2000000\n255\n" + bytes(100))
    with pytest.raises(ValueError, match=r"a\.png cannot be decoded"):
        read_image(tmp_path / "a.png")


def with_a_bad_profile(png: bytes) -> bytes:
    """Pillow refuses the file, and OpenCV does not."""
    kind, content = b"iCCP", b"abc"
    checksum = zlib.crc32(kind + content).to_bytes(4)
    place = png.index(b"IDAT") - 4
    return png[:place] + len(content).to_bytes(4) + kind + content + checksum + png[place:]


@pytest.mark.parametrize("side", [40, 14000])
def test_what_pillow_does_not_know_is_not_decoded(side, tmp_path):
    """Whatever its size: OpenCV accepts up to 2**30 pixels."""
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(with_a_bad_profile((tmp_path / "a.png").read_bytes()))
    with pytest.raises(ValueError, match=r"a\.png cannot be decoded: .*that Pillow does not know; save it as PNG"):
        read_image(tmp_path / "a.png")


def test_a_picture_of_radiance_is_not_decoded(tmp_path):
    """Its runs take 4 bytes for 127 pixels of one colour: 25 MB of them would be 6 GB."""
    head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 100 +X 127\n"
    (tmp_path / "a.jpg").write_bytes(head + 100 * (b"\2\2\0\x7f" + 4 * b"\xff\0"))
    assert cv2.imread(str(tmp_path / "a.jpg")) is not None, "no picture: this test proves nothing"
    with pytest.raises(ValueError, match=r"a\.jpg cannot be decoded"):
        read_image(tmp_path / "a.jpg")
