"""Zip archives as ``torch.save`` writes them: nothing compressed, and one directory that every reader finds."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

MAGIC = b"PK\x03\x04"
"""How such a file begins; ``torch.load`` goes by nothing else."""

_END64 = struct.Struct("<4s44xQ")  # signature, start of the directory
_LOCATOR = struct.Struct("<4s4xQ4x")  # signature, where the 64-bit end record is
_END = struct.Struct("<4s12xLH")  # signature, start of the directory, length of a comment
_TAIL = _END64.size + _LOCATOR.size + _END.size


def check_stored(path: Path) -> None:
    """Make sure that unpacking an archive cannot take more memory than it has bytes.

    ``torch.load`` unpacks compressed entries too. What Python's ``zipfile`` says of them counts only if PyTorch's own
    reader takes the same directory, so the records that lead there must be the very last ones, and agree.

    Raises:
        ValueError: if entries are compressed or overlap, or readers could disagree on where the directory is.
        zipfile.BadZipFile: if it is no zip archive.
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
    """According to the last bytes of an archive; None if they do not say it in one way."""
    signature, start, comment = _END.unpack(tail[-_END.size :])
    if signature != b"PK\x05\x06" or comment:
        return None
    signature, record = _LOCATOR.unpack(tail[_END64.size : -_END.size])
    if signature != b"PK\x06\x07":
        return start
    signature, start = _END64.unpack(tail[: _END64.size])
    return start if signature == b"PK\x06\x06" and record == size - _TAIL else None
