"""The table that every reader returns, and helpers of the readers."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class LandmarkTable:
    """Faces with their landmarks as an annotation names them.

    Attributes:
        root: folder that ``files`` are relative to.
        files: N image paths, separated by ``/``; an image of several faces is listed once a face.
        points: ``(N, K, 2)`` in pixels, (0, 0) being the centre of the top left pixel; 0 where not annotated.
        annotated: ``(N, K)``, which points are.
        names: of the K landmarks, all different.
        persons: who is on each image, where that is known.
        splits: ``train``, ``val`` or ``test`` of each image, where the annotation says so.
        mm_per_pixel: how large a pixel of each image is, where that is known.
        notes: remarks of its reader for the user.

    Raises:
        ValueError: for no image, no landmark, a repeated name, parts of different lengths, or a pixel size that is not
            positive.
    """

    root: Path
    files: tuple[str, ...]
    points: np.ndarray
    annotated: np.ndarray
    names: tuple[str, ...]
    persons: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None
    mm_per_pixel: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.files), len(self.names))
        if 0 in shape:
            raise ValueError(f"an annotation of {shape[0]} images and {shape[1]} landmarks; expected at least one each")
        repeated = sorted(name for name, times in Counter(self.names).items() if times > 1)
        if repeated:
            raise ValueError(f"landmark names must be different; repeated: {repeated}")
        lengths = [len(part) for part in (self.persons, self.splits, self.mm_per_pixel) if part is not None]
        if self.points.shape != (*shape, 2) or self.annotated.shape != shape or set(lengths) - {shape[0]}:
            raise ValueError(
                f"{shape[0]} files and {shape[1]} names, but points {self.points.shape}, annotated "
                f"{self.annotated.shape}, persons, splits and sizes of pixels of lengths {lengths}"
            )
        bad = [(file, value) for file, value in zip(self.files, self.mm_per_pixel or ()) if not 0 < value < math.inf]
        if bad:
            raise ValueError(f"{bad[0][0]}: mm_per_pixel {bad[0][1]:g}; expected a number above 0")

    def labelled(self) -> LandmarkTable:
        """Without the images on which no landmark is annotated; a note counts them."""
        keep = np.any(self.annotated, axis=1)
        if keep.all():
            return self
        left_out = [file for file, kept in zip(self.files, keep) if not kept]
        if not keep.any():
            raise ValueError(f"no landmark of any of the {len(left_out)} images is annotated")
        note = f"images without any annotated landmark, left out: {len(left_out)}, e.g. {left_out[0]}"
        return replace(
            self,
            files=_kept(self.files, keep),
            points=self.points[keep],
            annotated=self.annotated[keep],
            persons=self.persons and _kept(self.persons, keep),
            splits=self.splits and _kept(self.splits, keep),
            mm_per_pixel=self.mm_per_pixel and _kept(self.mm_per_pixel, keep),
            notes=(*self.notes, note),
        )


def _kept(values: tuple[T, ...], keep: np.ndarray) -> tuple[T, ...]:
    return tuple(value for value, kept in zip(values, keep) if kept)


def number(text: str, where: str) -> float:
    """``text`` as a finite number.

    Raises:
        ValueError: if it is not one; the message names ``where``.
    """
    try:
        value = float(text.replace("_", "?"))  # Python reads 1_2 as 12
    except ValueError:
        comma = ", with a point for the comma" if "," in text else ""
        raise ValueError(f"{where}: {text!r} is not a number (expected one such as 12.5{comma})") from None
    if not math.isfinite(value):
        raise ValueError(f"{where}: {text!r} is not a finite number; leave out what is not annotated")
    return value


def numbers(texts: Sequence[str], where: str) -> list[float]:
    """Each of ``texts`` as a finite number."""
    return [number(text, where) for text in texts]


def relative_file(text: str, root: Path) -> str:
    """An image path, written on any system; relative to ``root`` if it is inside of it.

    The text may encode accents otherwise than the disk does (Unicode's forms NFC and NFD): the path is the one that
    exists, if one does.
    """
    path = Path(PureWindowsPath(text.strip()).as_posix())
    relative = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
    if relative.isascii():
        return relative
    forms = [relative, *(unicodedata.normalize(form, relative) for form in ("NFC", "NFD"))]
    return next((form for form in forms if (root / form).exists()), relative)


def composed(text: str) -> str:
    """The text in Unicode's form NFC, the same for all encodings of accents."""
    return unicodedata.normalize("NFC", text)


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: if it does not exist or is a folder.
        ValueError: if it is empty or not in UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"annotation file {path} does not exist or is not a file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8 ({error}); save it as UTF-8") from error
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text
