"""A progress bar for loops over images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import rich.progress
from rich.console import Console

Item = TypeVar("Item")


def track(items: Sequence[Item], description: str) -> Iterable[Item]:
    """The items, with a bar on standard error as long as that is a terminal."""
    console = Console(stderr=True)
    return rich.progress.track(
        items, description=description, console=console, transient=True, disable=not console.is_terminal
    )
