"""The console on which commands print tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120
"""Characters per line if the output is not a terminal."""


def wide_console() -> Console:
    """Standard output; as wide as the terminal, or :data:`WIDTH` if it is not one."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
