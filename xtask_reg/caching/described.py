"""A description of what a module computes: the classes, settings and tensors of its parts."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.caching.raw_bytes import raw_bytes

_ATOMS = (
    *(bool, int, float, complex, str, bytes, type(None), type(...), enum.Enum),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def described(module: nn.Module) -> Iterator[str]:
    """One line per part: its class, the version of the package of the class, its settings, and its tensors (dtype,
    shape and a hash of the values).

    Functions and other objects in a part appear by name only, and the code of its methods does not appear.
    """
    for path, part in module.named_modules():
        settings = {name: value for name, value in vars(part).items() if name not in _OF_EVERY_MODULE}
        yield f"{path}: {_class(part)} {_value({**settings, **part._parameters, **part._buffers})}"


def _plain(tensor: Tensor) -> Tensor:
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def _class(part: nn.Module) -> str:
    kind = type(part)
    package = sys.modules.get(kind.__module__.partition(".")[0])
    return f"{kind.__module__}.{kind.__qualname__} {getattr(package, '__version__', '')}"


def _value(value: Any) -> str:
    if isinstance(value, _ATOMS):
        return repr(value)
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)} {blake2b(raw_bytes(_plain(value))).hexdigest()}"
    if type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
        return f"{value.dtype} {value.shape} {blake2b(value.tobytes()).hexdigest()}"
    if isinstance(value, torch.ScriptObject):  # the weights of a quantised layer
        return f"{value} {_value(value.__getstate__())}"
    if is_dataclass(value) and not isinstance(value, type):
        contents = {field.name: getattr(value, field.name) for field in fields(value)}
        return f"{type(value).__qualname__} {_value(contents)}"
    if isinstance(value, Mapping):
        return str(sorted(f"{_value(key)}: {_value(item)}" for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return str([_value(item) for item in value])
    if isinstance(value, Set):
        return str(sorted(map(_value, value)))
    return getattr(value, "__qualname__", type(value).__qualname__)
