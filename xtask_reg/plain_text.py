"""Names in pictures."""

from __future__ import annotations


def plain_text(name: str) -> str:
    """A name as Matplotlib shows it letter by letter: no formula between dollars, and in the legend despite a ``_``."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")
