"""Whether the teacher still is what it was."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from hashlib import blake2b

from torch import Tensor, nn

from xtask_reg.caching.described import described
from xtask_reg.caching.raw_bytes import raw_bytes


class TeacherState:
    """The digest of modules: of their classes, settings and tensors. It is computed again where a tensor or a part is
    another.

    That is seen by the version counters, and where the memory lies. Who writes past these (``parameter.data.mul_()``)
    is seen by a sample of one tensor a call: at once if all tensors change, else after as many calls as there are
    tensors.
    """

    def __init__(self) -> None:
        self._digest = ""
        self._modules: list[nn.Module] = []
        self._marks: list[_Mark] = []
        self._turn = itertools.count()

    def digest(self, modules: Sequence[nn.Module]) -> str:
        """The digest of the modules as they are now."""
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
    """A tensor as it was. It holds on to the memory, so that nothing else can come to lie there."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.memory = tensor.detach()
        self.version = None if tensor.is_inference() else tensor._version
        self.values = bytes(self._sample())

    def holds(self, tensor: Tensor) -> bool:
        """Whether it is the same tensor, and nobody wrote to it; inference tensors do not count who does."""
        return (
            tensor is self.tensor
            and tensor.data_ptr() == self.memory.data_ptr()
            and self.version is not None
            and tensor._version == self.version
        )

    def has_its_values(self) -> bool:
        """Whether a part of the values is what it was."""
        return self._sample() == self.values

    def _sample(self) -> memoryview:
        return raw_bytes(self.tensor[:1] if self.tensor.ndim > 1 else self.tensor)


def _digest(modules: Sequence[nn.Module]) -> str:
    content = blake2b(digest_size=16)
    for module in modules:
        for part in described(module):
            content.update(part.encode() + b"\n")
    return content.hexdigest()
