"""The files in a folder and its sub-folders."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """The files in a folder and its sub-folders, without hidden ones and the file system's ``lost+found``.

    Links to folders are followed, and each folder is visited once, even if several paths lead to it: by its own path if
    that is inside ``folder``, or else by the first link.

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
                folders.append(entry)  # after all folders that are not links
            else:
                folders.appendleft(entry)
