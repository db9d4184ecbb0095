"""Reads pickled dicts of NumPy arrays as tensors, without unpickling and without NumPy."""

from __future__ import annotations

import math
import mmap
import os
import sys
from collections.abc import Iterable
from typing import TypeGuard

import torch
from torch import Tensor

from xtask_reg.sources.inert_pickle import Call, Global, RefusedPickleError, read_inert_pickle
from xtask_reg.sources.weights import regular_file

# NumPy 2 renamed the module core
_RECONSTRUCT = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
_FROMBUFFER = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}  # protocol 5
_ALLOWED = {"numpy.ndarray", "numpy.dtype", "_codecs.encode", "collections.OrderedDict", *_RECONSTRUCT, *_FROMBUFFER}
_DTYPES = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "i8": torch.int64}
_NATIVE = {"little": "<", "big": ">"}[sys.byteorder]
_MAX_DIMENSIONS = 32


def load_numpy_pickle(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a pickled dict of numpy arrays by name onto the CPU, executing nothing that the file contains.

    Protocols 2 to 5, as Python 2 or 3 and any numpy wrote them; a dict or OrderedDict of arrays in C or Fortran order,
    of either byte order, whose dtype is float16, float32, float64 or int64 (which the tensors keep).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a regular file, is damaged or not a pickle, refers to anything else (the message names
            it), or holds other values.
    """
    path = regular_file(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _tensors(read_inert_pickle(data, _ALLOWED), len(data))
    except RefusedPickleError as error:
        raise ValueError(
            f"{path} {error}. Expected nothing but a dict of numpy arrays by name (float16, float32, float64 or "
            "int64), pickled with protocol 2 to 5"
        ) from error
    except OSError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(
            f"{path} cannot be read: expected a pickle (protocol 2 to 5) of a dict of numpy arrays, but it is empty, "
            "truncated, damaged or of another format; download or export it again"
        ) from error


def _tensors(content: object, file_size: int) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, value in _entries(content):
        if type(key) is not str:
            raise RefusedPickleError("has an entry without a name")
        tensors[key] = _tensor(ascii(key), value)
        file_size -= tensors[key].nbytes
        if file_size < 0:
            raise RefusedPickleError("has arrays that share their data")
    if not tensors:
        raise RefusedPickleError("is empty")
    return tensors


def _entries(content: object) -> Iterable[tuple[object, object]]:
    match content:
        case dict():
            return content.items()
        case Call("collections.OrderedDict", (list() as pairs,)):  # as Python 2 pickles it
            return pairs
    raise RefusedPickleError("does not contain a dict")


def _tensor(name: str, array: object) -> Tensor:
    match array:
        case Call(f, (Global("numpy.ndarray"), (0,), _), (1, shape, dtype, fortran, data)) if f in _RECONSTRUCT:
            pass
        case Call(f, (data, dtype, shape, "C" | "F" as order)) if f in _FROMBUFFER:
            fortran = order == "F"
        case _:
            raise RefusedPickleError(f"has the entry {name}, which is not an array in C or Fortran order")
    kind, swapped = _number(name, dtype)
    flat = _bytes(data)
    if not _is_shape(shape) or math.prod(shape) * kind.itemsize != len(flat):
        raise RefusedPickleError(f"has the array {name}, which is empty or does not fit its shape")
    if swapped:
        flat = flat.view(-1, kind.itemsize).flip(1).flatten()
    if fortran:
        return flat.view(kind).view(shape[::-1]).permute(tuple(range(len(shape)))[::-1]).contiguous()
    return flat.view(kind).view(shape)


def _number(name: str, dtype: object) -> tuple[torch.dtype, bool]:
    """The dtype, and whether its byte order is not this machine's."""
    match dtype:
        case Call("numpy.dtype", (str() as code, _, _), (3, "<" | ">" as order, *_)) if code in _DTYPES:
            return _DTYPES[code], order != _NATIVE
    raise RefusedPickleError(f"has the array {name}, whose dtype is none of {', '.join(map(str, _DTYPES.values()))}")


def _bytes(data: object) -> Tensor:
    match data:
        case Call("_codecs.encode", (str() as text, "latin1")):  # as Python 3 pickles bytes with protocol 2
            data = text.encode("latin1")
        case str():  # as Python 2 pickles them
            data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise ValueError("no bytes")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _is_shape(shape: object) -> TypeGuard[tuple[int, ...]]:
    return type(shape) is tuple and len(shape) <= _MAX_DIMENSIONS and all(type(n) is int and n > 0 for n in shape)
