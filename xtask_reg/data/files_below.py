"""The files of a folder and of those within it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """What a folder and the folders within it hold, but for what is hidden and a disk's own ``lost+found``.

    Links to folders are followed, and each folder is looked into once, whatever leads to it: by its own path if that
    begins with ``folder``, or else by that of the first link.

    Raises:
        OSError: for a folder that cannot be read.
    """
    seen: set[Path] = set()
    folders = deque([folder])
    while folders:
        place = folders.popleft()
        if place.resolve() in seen:
            continue
        seen.add(place.resolve())
        for entry in sorted(place.iterdir()):
            if entry.name.startswith(".") or entry.name == "lost+found":
                continue
            if not entry.is_dir():
                yield entry
            elif entry.is_symlink():
                folders.append(entry)  # behind all that are no links
            else:
                folders.appendleft(entry)
