"""Reading photographs: whole, upright, in colour."""

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
_TURNED = range(2, 9)  # some cameras write 0, which viewers pass over
_BAD_EXIF = (struct.error, SyntaxError)  # what Pillow raises of EXIF data in PNG and WebP files


def is_shown_image(path: Path) -> bool:
    """Whether it is an image by its suffix, and not hidden: systems keep ``._a.jpg``, no image, beside ``a.jpg``."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_image(path: Path) -> np.ndarray:
    """The pixels ``(H, W, 3)`` in BGR, 8 bits, as MMPose's loader reads them (``cv2.IMREAD_COLOR``).

    An EXIF orientation is applied, as viewers do. Grey becomes three equal channels, of 16 bits the upper 8 stay, an
    alpha channel is dropped, and of a file of several images (a TIFF stack) the first is read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image that Pillow and OpenCV know, cut off or damaged, less than 32 pixels wide or high,
            or has more pixels than Pillow takes for an honest image (179 million).
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
    """Whether no pixel reaches 32 of 255: so look 12 bits in a file of 16, of which :func:`read_image` keeps 8."""
    return int(image.max()) < _DARKEST


def is_turned(path: Path) -> bool:
    """Whether an image has an EXIF orientation other than upright; EXIF data that cannot be read say nothing."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(_ORIENTATION) in _TURNED
    except (UnidentifiedImageError, *_BAD_EXIF):
        return False


def lie_outside(points: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Which of ``points`` ``(..., 2)`` are not in an image of ``size`` (width, height): below -0.5 or above the size.

    With pixel centres at whole numbers the right border is at width - 0.5; tools that measure from the image's corner
    put it at width, and that half pixel is let pass.
    """
    return np.any((points < -0.5) | (points > size), axis=-1)


def _decoded(content: np.ndarray) -> np.ndarray | None:
    """None for what OpenCV knows no image in, or one of more than it would decode."""
    try:
        return cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except cv2.error:
        return None


def check_whole(path: Path) -> None:
    """Raise ``ValueError`` for an image that is damaged, cut off, too large to be read at once, or unknown to Pillow.

    All of it is decoded: some versions of OpenCV fill what is missing of a JPEG with grey and say nothing. And what
    Pillow does not know OpenCV might decode whatever its size.
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
