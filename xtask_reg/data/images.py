"""Reads photographs completely, upright and in colour."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

MIN_SIZE = 32
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_DARKEST = 32
_ORIENTATION = 0x0112
_TURNED = range(2, 9)  # some cameras write 0, which viewers ignore
_BAD_EXIF = (struct.error, SyntaxError)  # what Pillow raises for bad EXIF data in PNG and WebP files


def is_shown_image(path: Path) -> bool:
    """Whether it has an image's suffix and is not hidden: macOS puts a ``._a.jpg``, not an image, beside ``a.jpg``."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_image(path: Path) -> np.ndarray:
    """The pixels ``(H, W, 3)`` in BGR, 8 bits, as MMPose's loader reads them (``cv2.IMREAD_COLOR``).

    An EXIF orientation is applied, as viewers do. Grey becomes three equal channels, of 16 bits the upper 8 stay, an
    alpha channel is dropped, and of a file of several images (a TIFF stack) the first is read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not an image that Pillow and OpenCV can read, is cut off or damaged, less than 32 pixels
            wide or high, or has more pixels than Pillow allows (179 million).
    """
    if not path.is_file():
        seen = "" if path.is_absolute() else f" (relative to {Path.cwd()})"
        raise FileNotFoundError(f"the image {path} does not exist{seen}")
    check_whole(path)
    image = _decoded(np.fromfile(path, np.uint8))
    if image is None:
        raise ValueError(f"the image {path} cannot be decoded")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIZE:
        raise ValueError(f"the image {path} is {width} x {height} pixels; expected at least {MIN_SIZE} x {MIN_SIZE}")
    return image


def is_nearly_black(image: np.ndarray) -> bool:
    """Whether no pixel reaches 32 of 255, as in a 16-bit file with 12-bit values: :func:`read_image` keeps 8 bits."""
    return int(image.max()) < _DARKEST


def is_turned(path: Path) -> bool:
    """Whether an image has an EXIF orientation other than upright; unreadable EXIF data count as upright."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(_ORIENTATION) in _TURNED
    except (UnidentifiedImageError, *_BAD_EXIF):
        return False


def lie_outside(points: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Which of ``points`` ``(..., 2)`` are not in an image of ``size`` (width, height): below -0.5 or above the size.

    With integer pixel centres the right border is at width - 0.5; tools that measure from the image's corner put it at
    width, and that half pixel is tolerated.
    """
    return np.any((points < -0.5) | (points > size), axis=-1)


def _decoded(content: np.ndarray) -> np.ndarray | None:
    """The decoded image; None if OpenCV does not recognise it, or it exceeds OpenCV's limit of pixels."""
    try:
        return cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except cv2.error:
        return None


def check_whole(path: Path) -> None:
    """Raise ``ValueError`` for an image that is damaged, cut off, too large to be read at once, or unknown to Pillow.

    It is decoded completely: some versions of OpenCV silently fill the missing part of a JPEG with grey. And a format
    that Pillow does not know OpenCV might decode whatever the size.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except UnidentifiedImageError as error:
        raise ValueError(
            f"the image {path} cannot be decoded: it is empty, no image, or of a kind that Pillow does not know; "
            "save it as PNG or JPEG"
        ) from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"the image {path} has too many pixels to be read at once: scale it down ({error})") from error
    except (OSError, SyntaxError, ValueError, RuntimeError) as error:
        raise ValueError(f"the image {path} is damaged or cut off: {error}") from error
