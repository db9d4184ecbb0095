"""Checks of the sizes of images and maps."""

from __future__ import annotations


def checked_size(size: object, expected: str, otherwise: str) -> tuple[int, int]:
    """The argument ``size`` as a pair of whole numbers.

    Args:
        size: the argument.
        expected: which sides, and their unit, for the message.
        otherwise: what else is accepted, for the message.

    Raises:
        ValueError: unless it is a list or tuple of two whole numbers above 0.
    """
    pair = tuple(size) if isinstance(size, (list, tuple)) else ()
    if len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        raise ValueError(f"size={size!r}; expected {expected}, whole numbers above 0, or {otherwise}")
    return pair
