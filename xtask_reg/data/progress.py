"""A progress bar for loops over images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import rich.progress
from rich.console import Console

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a bar on standard error if that is a terminal; ``total`` is needed if they have no length."""
    console = Console(stderr=True)
    return rich.progress.track(
        items, description=description, total=total, console=console, transient=True, disable=not console.is_terminal
    )
