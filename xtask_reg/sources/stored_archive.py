"""Checks that a zip archive is as ``torch.save`` writes it: uncompressed, with a directory that is unambiguous."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

MAGIC = b"PK\x03\x04"
"""The first bytes of such a file, by which alone ``torch.load`` recognises it."""

_END64 = struct.Struct("<4s44xQ")  # signature, start of the directory
_LOCATOR = struct.Struct("<4s4xQ4x")  # signature, where the 64-bit end record is
_END = struct.Struct("<4s12xLH")  # signature, start of the directory, length of a comment
_TAIL = _END64.size + _LOCATOR.size + _END.size


def check_stored(path: Path) -> None:
    """Check that unpacking an archive cannot take more memory than its size.

    ``torch.load`` also unpacks compressed entries. What Python's ``zipfile`` reports about them counts only if
    PyTorch's own reader uses the same directory, so the records that point to it must be the very last, and agree.

    Raises:
        ValueError: if entries are compressed or overlap, or readers could disagree on where the directory is.
        zipfile.BadZipFile: if it is not a zip archive.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        if _start_of_directory(file.read().rjust(_TAIL), size) != archive.start_dir:
            raise ValueError("an archive whose directory is ambiguous")
        entries = archive.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError(f"an archive of {size} bytes that unpacks to {unpacked}")


def _start_of_directory(tail: bytes, size: int) -> int | None:
    """The start of the directory according to the archive's last bytes; None if they are ambiguous."""
    signature, start, comment = _END.unpack(tail[-_END.size :])
    if signature != b"PK\x05\x06" or comment:
        return None
    signature, record = _LOCATOR.unpack(tail[_END64.size : -_END.size])
    if signature != b"PK\x06\x07":
        return start
    signature, start = _END64.unpack(tail[: _END64.size])
    return start if signature == b"PK\x06\x06" and record == size - _TAIL else None
