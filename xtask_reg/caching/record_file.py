"""Files of records of one size: a header, then key, checksum and content of each record, one after the other.

=======  ======================================  ====================
bytes    header                                  record
=======  ======================================  ====================
first    ``XTCACHE`` and the format's version    key, 16 bytes
then     length of the text, 4 bytes             CRC-32, 4 bytes
then     the text, JSON                          content
last     CRC-32 of the above, 4 bytes
=======  ======================================  ====================

A record's checksum is that of its key and content. Numbers are little-endian.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xtask_reg.caching.raw_bytes import KEY_BYTES

MAGIC = b"XTCACHE1"
SUFFIX = ".cache"
_NUMBER = struct.Struct("<I")
BEFORE_CONTENT = KEY_BYTES + _NUMBER.size
_LONGEST_HEADER = 1 << 16


class ForeignFileError(Exception):
    """A file of another kind, or with a damaged header."""


class RecordFile:
    """A file for reading: memory-mapped, each record checked once.

    Args:
        path: the file.

    Raises:
        ForeignFileError: if it is not a regular file, or its header is damaged.
        OSError: if the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_file():
            raise ForeignFileError("it is a folder, a pipe or a device")
        with path.open("rb") as file:
            self.header, self._start = _read_header(file.read(_LONGEST_HEADER))
        self._map: mmap.mmap | None = None
        self._read = 0
        self.damaged = 0

    def new_records(self, content: int) -> Iterator[tuple[bytes, int]]:
        """Key and position of the undamaged contents (``content`` bytes each) that were added since the last call."""
        size = BEFORE_CONTENT + content
        records = max(0, self.path.stat().st_size - self._start) // size
        if records <= self._read:
            return
        with self.path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), self._start + records * size, access=mmap.ACCESS_COPY)
        with memoryview(self._map) as view:
            for number in range(self._read, records):
                begin = self._start + number * size
                key, checksum = bytes(view[begin : begin + KEY_BYTES]), view[begin + KEY_BYTES : begin + BEFORE_CONTENT]
                if _NUMBER.unpack(checksum)[0] == _checksum(key, view[begin + BEFORE_CONTENT : begin + size]):
                    yield key, begin + BEFORE_CONTENT
                else:
                    self.damaged += 1
        self._read = records

    def has_unfinished(self, content: int) -> bool:
        """Whether the file ends in the middle of a record."""
        return (self.path.stat().st_size - self._start) % (BEFORE_CONTENT + content) > 0

    @property
    def was_cut(self) -> bool:
        """Whether the file was truncated since it was mapped: reading beyond its end would crash the process."""
        return self._map is not None and self._map.size() < len(self._map)

    @property
    def content(self) -> mmap.mmap:
        """The mapped part of the file."""
        assert self._map is not None
        return self._map


class RecordWriter:
    """A new file in ``folder``, to which only this process writes.

    Raises:
        OSError: if it cannot be written.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
        self._process = os.getpid()
        text = json.dumps(header).encode()
        begin = MAGIC + _NUMBER.pack(len(text)) + text
        unfinished = self.path.with_suffix(".partial")
        try:
            unfinished.write_bytes(begin + _NUMBER.pack(zlib.crc32(begin)))
            os.replace(unfinished, self.path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    @property
    def is_usable(self) -> bool:
        """Whether the file still exists, and this process is not a fork of its creator."""
        return self._process == os.getpid() and self.path.exists()

    def append(self, records: Mapping[bytes, memoryview]) -> None:
        """Write contents under their keys: all of them, or none after an error.

        Raises:
            OSError: if they cannot be written.
        """
        parts = (
            part for key, content in records.items() for part in (key, _NUMBER.pack(_checksum(key, content)), content)
        )
        with self.path.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            left = memoryview(b"".join(parts))
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(before)
                raise


def _checksum(key: bytes, content: memoryview) -> int:
    return zlib.crc32(content, zlib.crc32(key))


def _read_header(begin: bytes) -> tuple[dict[str, Any], int]:
    """The header's JSON, and the position at which it ends."""
    if not begin:
        raise ForeignFileError("it is empty")
    if begin[: len(MAGIC)] != MAGIC:
        raise ForeignFileError("it does not begin as a file of the cache does")
    text = len(MAGIC) + _NUMBER.size
    try:
        end = text + _NUMBER.unpack(begin[len(MAGIC) : text])[0]
        if _NUMBER.unpack(begin[end : end + _NUMBER.size])[0] != zlib.crc32(begin[:end]):
            raise ForeignFileError("its header is damaged")
        return dict(json.loads(begin[text:end])), end + _NUMBER.size
    except (struct.error, TypeError, ValueError, RecursionError) as error:
        raise ForeignFileError("its header is cut off, or damaged") from error
