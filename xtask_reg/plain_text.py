"""Names in pictures and on terminals."""

from __future__ import annotations


def plain_text(name: str) -> str:
    """A name as Matplotlib shows it letter by letter: no formula between dollars, and in the legend despite a ``_``.

    What is no letter, as in the names of old files in another encoding, becomes its code.
    """
    letters = name.encode(errors="backslashreplace").decode()
    return (" " if name.startswith("_") else "") + letters.replace("$", r"\$")


def printable(text: str) -> str:
    """Text of a file as a terminal shows it letter by letter: what would steer it, a new line too, by its code."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
