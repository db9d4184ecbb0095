"""Safe stand-ins for NumPy's arrays and scalars in checkpoints: their dtypes are built by name alone.

``numpy.dtype.__setstate__`` trusts the sizes and flags in a file, and an array of such a dtype may end anywhere:
reading it would disclose the memory of the process, or crash it. So only the name of a file's dtype is used.
"""

from __future__ import annotations

import math
import pickle
import re
from typing import Any, NoReturn, Self

import numpy as np

_PLAIN = re.compile(r"[<>|]([biu][1248]|f[248]|U\d{1,6})")


class CheckedArray(np.ndarray):
    """In place of ``numpy.ndarray``; it is pickled as a plain array."""

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
    """In place of ``_reconstruct``: an empty array, whose state is set next."""
    return np.empty(0).view(CheckedArray)


def checked_scalar(kind: object, data: object) -> Any:
    """In place of ``scalar``."""
    return np.ndarray((), _checked(kind, data, 1), data)[()]  # type: ignore[arg-type]


def refuse(what: str) -> NoReturn:
    """Raise the error for a checkpoint that asks for something that is not allowed."""
    raise pickle.UnpicklingError(f"the checkpoint asks for {what}, which is refused")


def _checked(kind: object, data: object, count: int) -> np.dtype[Any]:
    """The dtype by its name, if the data has the size of ``count`` values and, for strings, is valid text."""
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
