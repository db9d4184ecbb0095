"""Names and texts, escaped for figures and terminals."""

from __future__ import annotations


def plain_text(name: str) -> str:
    """A name that Matplotlib shows literally: ``$`` starts no formula, and a leading ``_`` does not hide it in legends.

    What cannot be encoded, as in file names of another encoding, becomes its code.
    """
    letters = name.encode(errors="backslashreplace").decode()
    return (" " if name.startswith("_") else "") + letters.replace("$", r"\$")


def printable(text: str) -> str:
    """Text from a file that is safe to print: control characters, new lines too, become their codes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
