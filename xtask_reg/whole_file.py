"""Files that appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write, beside ``path``, that takes its place at the end; after an error nothing of it stays.

    Raises:
        FileNotFoundError, IsADirectoryError: as :func:`check_place` does, before anything is written.
    """
    check_place(path)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")  # with the suffix, by which some writers go
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Whether :func:`whole_file` could write there, to be asked before long work.

    Raises:
        FileNotFoundError: if there is no folder for it.
        IsADirectoryError: if ``path`` is a folder.
    """
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder for {path}; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; expected the name of a file to write")
