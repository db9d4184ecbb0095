"""Words for what a module computes: where two processes get equal words, they get equal outputs."""

from __future__ import annotations

import enum
import functools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from hashlib import blake2b
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.caching.raw_bytes import raw_bytes

_ATOMS = (bool, int, float, complex, str, bytes, type(None), type(...), enum.Enum)
_ATOMS += (torch.dtype, torch.device, torch.layout, torch.memory_format)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_TAPS = "xtask_reg.taps"  # its hooks read and change nothing


class Description:
    """What decides on a module's output in eval mode: the classes of its parts with the code of their methods, their
    settings and hooks, and dtype, shape and bytes of each tensor.

    Of other objects that a module holds only the class counts, and of what its methods call only the version of the
    package.
    """

    def __init__(self) -> None:
        self._open: list[int] = []

    def module(self, module: nn.Module) -> Iterator[str]:
        """The description of a module, in parts."""
        classes: set[type] = set()
        for name, part in module.named_modules():
            yield f"module {name} {_named(type(part))}"
            classes.update(type(part).__mro__)
            settings = {key: value for key, value in vars(part).items() if key not in _OF_EVERY_MODULE}
            for key, value in sorted({**settings, **part._parameters, **part._buffers}.items()):
                yield f"{key}={self.value(value)}"
            for kind in _HOOKS:
                hooks = (hook for hook in vars(part)[kind].values() if type(hook).__module__ != _TAPS)
                yield f"{kind}={[self.value(hook) for hook in hooks]}"
        for each in sorted(classes, key=_named):
            yield f"class {_named(each)} {self._methods(each)}"

    def value(self, value: Any) -> str:
        """The description of one value."""
        if isinstance(value, _ATOMS):
            return repr(value)
        if isinstance(value, Tensor):
            return _tensor(value)
        if id(value) in self._open:
            return f"the object {len(self._open) - self._open.index(id(value))} around it"
        self._open.append(id(value))
        try:
            return self._composed(value)
        finally:
            self._open.pop()

    def _composed(self, value: Any) -> str:
        match value:
            case nn.Module():
                return f"({'; '.join(self.module(value))})"
            case Mapping():
                return str(sorted(f"{self.value(key)}: {self.value(item)}" for key, item in value.items()))
            case list() | tuple():
                return str([self.value(item) for item in value])
            case set() | frozenset():
                return str(sorted(self.value(item) for item in value))
            case functools.partial():
                return f"partial {self.value([value.func, value.args, value.keywords])}"
            case MethodType():
                return f"{self.value(value.__func__)} of {_named(type(value.__self__))}"
            case FunctionType():
                return self._function(value)
            case type():
                return _named(value)
        if is_dataclass(value):
            return f"{_named(type(value))} {self.value(vars(value))}"
        if hasattr(value, "__array_interface__"):  # NumPy's
            return f"{value.dtype} {value.shape} {value.tobytes().hex()}"
        return getattr(value, "__qualname__", _named(type(value)))

    def _methods(self, kind: type) -> list[str]:
        if _is_of_torch(kind):
            return []
        own = {name: getattr(value, "__func__", value) for name, value in sorted(vars(kind).items())}
        return [f"{name} {self._function(value)}" for name, value in own.items() if isinstance(value, FunctionType)]

    def _function(self, function: FunctionType) -> str:
        if _is_of_torch(function):
            return function.__qualname__
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        around = [cell for cell in cells if not isinstance(cell, (type, nn.Module))]
        return f"{self._code(function.__code__)} {self.value([function.__defaults__, function.__kwdefaults__, around])}"

    def _code(self, code: CodeType) -> str:
        constants = [self._code(each) if isinstance(each, CodeType) else self.value(each) for each in code.co_consts]
        return f"{code.co_code.hex()} {code.co_names} {constants}"


def _tensor(tensor: Tensor) -> str:
    values = tensor if tensor.layout == torch.strided else tensor.to_dense()
    return f"{tensor.dtype} {tuple(tensor.shape)} {blake2b(raw_bytes(values)).hexdigest()}"


def _named(kind: type) -> str:
    """The name of a class, with the version of its package."""
    package = sys.modules.get(kind.__module__.partition(".")[0])
    return f"{kind.__module__}.{kind.__qualname__} {getattr(package, '__version__', '')}"


def _is_of_torch(value: type | FunctionType) -> bool:
    """What PyTorch's version stands for."""
    return (value.__module__ or "").partition(".")[0] in ("torch", "builtins")


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
