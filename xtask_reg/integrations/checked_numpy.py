"""What a checkpoint gets for NumPy's arrays and scalars: values that fit a type which NumPy made itself.

``numpy.dtype.__setstate__`` believes the sizes and flags that a file states, and an array of such a type ends where the
file wants: reading it would show, or end, the process. So of a file's types only the name counts.
"""

from __future__ import annotations

import math
import pickle
import re
from typing import Any, NoReturn, Self

import numpy as np

_PLAIN = re.compile(r"[<>|]([biu][1248]|f[248]|U\d{1,6})")


class CheckedArray(np.ndarray):
    """In place of ``numpy.ndarray``, as which it is written again."""

    def __new__(cls, *_: object) -> Self:
        refuse("an array without values")

    def __setstate__(self, state: Any) -> None:
        match state:
            case (1, tuple() as shape, kind, bool() as fortran, data) if all(type(n) is int and n >= 0 for n in shape):
                super().__setstate__((1, shape, _checked(kind, data, math.prod(shape)), fortran, data))  # type: ignore[arg-type]
            case _:
                refuse("an array of an unknown state")

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()


def checked_array(*_: object) -> CheckedArray:
    """In place of ``_reconstruct``: an empty array, whose state comes after it."""
    return np.empty(0).view(CheckedArray)


def checked_scalar(kind: object, data: object) -> Any:
    """In place of ``scalar``."""
    return np.ndarray((), _checked(kind, data, 1), data)[()]  # type: ignore[arg-type]


def refuse(what: str) -> NoReturn:
    """Raise the error of a checkpoint that asks for more than it may have."""
    raise pickle.UnpicklingError(f"the checkpoint asks for {what}, which is refused")


def _checked(kind: object, data: object, count: int) -> np.dtype[Any]:
    """The type of so many values, if the bytes are as many, and text if they are to be text."""
    name = kind.str if isinstance(kind, np.dtype) else ""
    if not _PLAIN.fullmatch(name):
        refuse(f"values of the type {name or kind!r}")
    dtype = np.dtype(name)
    if not isinstance(data, bytes) or len(data) != count * dtype.itemsize:
        refuse(f"{count} values of the type {name} of other bytes")
    try:
        data.decode({"<U": "utf-32-le", ">U": "utf-32-be"}.get(name[:2], "latin-1"))
    except UnicodeDecodeError:
        refuse("text that is not valid Unicode")
    return dtype
