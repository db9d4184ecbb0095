"""Where commands print tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120
"""Characters a line where the output is no terminal."""


def wide_console() -> Console:
    """Standard output, as wide as the terminal if it is one."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
