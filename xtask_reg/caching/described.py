"""Words for what a module computes: its parts' classes and settings, and its tensors."""

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
    """For each part its class, the version of the package that the class is from, its settings, and the dtype, shape
    and values of its tensors.

    Of functions and other objects that a part holds only the name counts, and the code of its methods not at all.
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
