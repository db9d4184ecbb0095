"""Folders that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, beside ``path``, that becomes ``path`` at the end; after an error nothing of it remains.

    An empty folder that already exists is kept, since it may be a link, a mount point, or the working directory: the
    folder to fill is then inside it, and its content is moved up at the end.

    Raises:
        FileExistsError: if ``path`` exists and is not an empty folder.
    """
    path = path.absolute()
    is_there = path.is_dir()
    if os.path.lexists(path) and not (is_there and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is not an empty folder; choose another, or remove it")
    missing_parents = [parent for parent in path.parents if not parent.exists()]
    part = (path if is_there else path.parent) / f".{path.name}.{uuid.uuid4().hex[:12]}.part"
    try:
        part.mkdir(parents=True)
        yield part
        if is_there:
            _move_up(part)
        else:
            part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for parent in missing_parents:
            with suppress(OSError):
                parent.rmdir()
        raise


def _move_up(part: Path) -> None:
    """Move a folder's content into its parent, which holds nothing else; after an error, move it back."""
    path, entries = part.parent, list(part.iterdir())
    if list(path.iterdir()) != [part]:
        raise FileExistsError(f"{path} is not empty any more; choose another folder")
    try:
        for entry in entries:
            entry.rename(path / entry.name)
        part.rmdir()
    except BaseException:
        for entry in entries:
            with suppress(FileNotFoundError):
                (path / entry.name).rename(entry)
        raise
