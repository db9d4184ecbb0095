"""What a function passed to ``nn.Module._apply`` would do to the tensors of a network."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Conversion:
    """What the function does.

    Attributes:
        changes: whether it returns other tensors than it is given.
        keeps_values: whether the values survive; also true on the meta device, where there are none to lose.
    """

    changes: bool
    keeps_values: bool


def try_conversion(fn: Callable[[Tensor], Tensor], modules: Iterable[nn.Module]) -> Conversion:
    """Try ``fn`` on a small tensor of each dtype and device that the modules' parameters and buffers have."""
    tried = [_try(fn, dtype, device) for dtype, device in _kinds(modules)]
    return Conversion(any(one.changes for one in tried), all(one.keeps_values for one in tried))


def _kinds(modules: Iterable[nn.Module]) -> set[tuple[torch.dtype, torch.device]]:
    tensors = chain.from_iterable(chain(module.parameters(), module.buffers()) for module in modules)
    return {(tensor.dtype, tensor.device) for tensor in tensors if not tensor.is_quantized}


def _try(fn: Callable[[Tensor], Tensor], dtype: torch.dtype, device: torch.device) -> Conversion:
    # random bits: exact in every dtype, and to_empty() will not reproduce them; four dimensions, for memory formats
    bits = torch.tensor(random.SystemRandom().choices((0.0, 1.0), k=64)).view(4, 4, 2, 2)
    probe = bits.to(device, dtype)
    converted = fn(probe)
    known = not (probe.is_meta or converted.is_meta)
    return Conversion(converted is not probe, not known or torch.equal(converted.to("cpu", bits.dtype), bits))
