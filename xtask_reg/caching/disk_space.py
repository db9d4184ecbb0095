"""Checks that the disk has room for a cache."""

from __future__ import annotations

import errno
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path


def announce(folder: Path, capacity: int, sizes: Mapping[str, int], there: Mapping[str, int]) -> None:
    """Announce how much a cache may write to a folder, and check that it fits.

    Args:
        folder: need not exist yet.
        capacity: the maximum number of entries at each tap.
        sizes: bytes per entry, by tap.
        there: the number of entries already stored, by tap.

    Raises:
        OSError: if the remaining entries need more space than is free.
    """
    total = sum(capacity * size for size in sizes.values())
    lacking = sum(max(0, capacity - there[path]) * size for path, size in sizes.items())
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    listed = ", ".join(
        f"{path}: {capacity} entries of {readable(size)}, {there[path]} already stored" for path, size in sizes.items()
    )
    what = f"the cache of the teacher's outputs in {folder} takes up to {readable(total)} ({listed})"
    if free < lacking:
        raise OSError(
            errno.ENOSPC,
            f"{what}, but only {readable(free)} are free: choose another folder, dtype='float16', fewer versions of "
            "each image, or train without cache",
        )
    warnings.warn(f"{what}; {readable(free)} are free")


def readable(nbytes: int) -> str:
    """A number of bytes with a unit, such as ``'1.5 GB'``."""
    power = min(4, max(0, len(str(nbytes)) - 1) // 3)
    return f"{nbytes / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
