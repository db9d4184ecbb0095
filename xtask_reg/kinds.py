"""Checks that an argument is of the expected kind."""

from __future__ import annotations

import inspect


def check_kind(given: object, kinds: type | tuple[type, ...], name: str, expected: str) -> None:
    """Raise ``TypeError`` unless an argument is of one of these classes.

    Args:
        given: the argument.
        kinds: the classes.
        name: what the argument is, for the message.
        expected: what to pass instead, for the message.
    """
    if not isinstance(given, kinds):
        raise TypeError(f"{name} is {_described(given)}; expected {expected}")


def _described(given: object) -> str:
    if inspect.isclass(given):
        return f"the class {given.__name__}"
    if inspect.isroutine(given):
        return f"the function {given.__name__}"
    each = given if isinstance(given, (list, tuple)) else [given]
    if given is None or all(isinstance(value, (str, int, float)) for value in each):
        return repr(given)
    return f"an object of the class {type(given).__name__}"
