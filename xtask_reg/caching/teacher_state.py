"""Detects changes of the teacher."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from hashlib import blake2b

from torch import Tensor, nn

from xtask_reg.caching.described import described
from xtask_reg.caching.raw_bytes import raw_bytes


class TeacherState:
    """The digest of modules: of their classes, settings and tensors. It is computed again if a tensor or a submodule
    changes.

    Changes are detected by version counters and memory addresses. Writes that bypass these (``parameter.data.mul_()``)
    are detected by comparing a sample of one tensor per call: at once if all tensors change, otherwise after at most as
    many calls as there are tensors.
    """

    def __init__(self) -> None:
        self._digest = ""
        self._modules: list[nn.Module] = []
        self._marks: list[_Mark] = []
        self._turn = itertools.count()

    def digest(self, modules: Sequence[nn.Module]) -> str:
        """The current digest of the modules."""
        parts = [part for module in modules for part in module.modules()]
        places = [place for part in parts for place in (*part._parameters.values(), *part._buffers.values())]
        tensors = [tensor for tensor in places if tensor is not None]
        if not self._holds(parts, tensors):
            self._digest = _digest(modules)
            self._modules, self._marks = parts, [_Mark(tensor) for tensor in tensors]
        return self._digest

    def _holds(self, parts: list[nn.Module], tensors: list[Tensor]) -> bool:
        if not self._digest or len(parts) != len(self._modules) or len(tensors) != len(self._marks):
            return False
        if any(now is not then for now, then in zip(parts, self._modules)):
            return False
        if any(not mark.holds(tensor) for mark, tensor in zip(self._marks, tensors)):
            return False
        return not tensors or self._marks[next(self._turn) % len(tensors)].has_its_values()


class _Mark:
    """A record of a tensor's state. It keeps the memory alive, so that the address is not reused."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.memory = tensor.detach()
        self.version = None if tensor.is_inference() else tensor._version
        self.values = bytes(self._sample())

    def holds(self, tensor: Tensor) -> bool:
        """Whether it is the same tensor, unchanged; never for inference tensors, which do not count changes."""
        return (
            tensor is self.tensor
            and tensor.data_ptr() == self.memory.data_ptr()
            and self.version is not None
            and tensor._version == self.version
        )

    def has_its_values(self) -> bool:
        """Whether the sampled values are unchanged."""
        return self._sample() == self.values

    def _sample(self) -> memoryview:
        return raw_bytes(self.tensor[:1] if self.tensor.ndim > 1 else self.tensor)


def _digest(modules: Sequence[nn.Module]) -> str:
    content = blake2b(digest_size=16)
    for module in modules:
        for part in described(module):
            content.update(part.encode() + b"\n")
    return content.hexdigest()
