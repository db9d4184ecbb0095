"""The files of a folder and of those within it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """What a folder and the folders within it hold, but for what is hidden and a disk's own ``lost+found``.

    Links to folders are followed, and each folder is looked into once, whatever leads to it.

    Raises:
        OSError: for a folder that cannot be read.
    """
    return _below(folder, set())


def _below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    seen.add(folder.resolve())
    shown = (entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name != "lost+found")
    for entry in sorted(shown, key=lambda entry: (entry.is_symlink(), entry)):
        if not entry.is_dir():
            yield entry
        elif entry.resolve() not in seen:
            yield from _below(entry, seen)
