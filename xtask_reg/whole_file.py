"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write, beside ``path``, that replaces it at the end; after an error nothing of it remains.

    If ``path`` is a link, the file that it points to is replaced.

    Raises:
        FileNotFoundError, IsADirectoryError, OSError: as :func:`check_place` does, before anything is written.
    """
    check_place(path)
    path = path.resolve()
    part = path.with_name(f".part-{uuid.uuid4().hex[:12]}-{path.name}")  # some writers choose the format by the suffix
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file as :func:`whole_file` does."""
    with whole_file(path) as part:
        part.write_bytes(content)


def check_place(path: Path) -> None:
    """Check that :func:`whole_file` could write there; for use before long work.

    Raises:
        FileNotFoundError: if the folder does not exist.
        IsADirectoryError: if ``path`` is a folder.
        OSError: if it is a device or a pipe, such as ``/dev/null``, which would be replaced by a file.
    """
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"there is no folder for {path}; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; expected the name of a file to write")
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a device or a pipe; expected the name of a file to write")
