"""What a function that ``nn.Module._apply`` is given would make of the tensors of a network."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Conversion:
    """What was found by trying.

    Attributes:
        changes: whether other tensors come out of it.
        keeps_values: whether they have the old values; so they do on the meta device, where there are none to lose.
    """

    changes: bool
    keeps_values: bool


def try_conversion(fn: Callable[[Tensor], Tensor], modules: Iterable[nn.Module]) -> Conversion:
    """Try ``fn`` on a small tensor of each dtype and device that the modules' parameters and buffers have."""
    tried = [_try(fn, dtype, device) for dtype, device in _kinds(modules)]
    return Conversion(any(one.changes for one in tried), all(one.keeps_values for one in tried))


def _kinds(modules: Iterable[nn.Module]) -> set[tuple[torch.dtype, torch.device]]:
    return {(tensor.dtype, tensor.device) for tensor in _tensors(modules) if not tensor.is_quantized}


def _tensors(modules: Iterable[nn.Module]) -> Iterator[Tensor]:
    return chain.from_iterable(chain(module.parameters(), module.buffers()) for module in modules)


def _try(fn: Callable[[Tensor], Tensor], dtype: torch.dtype, device: torch.device) -> Conversion:
    # bits, which each dtype holds exactly, by chance in no memory; four dimensions, for memory formats
    bits = torch.tensor(random.SystemRandom().choices((0.0, 1.0), k=64)).view(4, 4, 2, 2)
    probe = bits.to(device, dtype)
    converted = fn(probe)
    known = not (probe.is_meta or converted.is_meta)
    return Conversion(converted is not probe, not known or torch.equal(converted.to("cpu", bits.dtype), bits))
