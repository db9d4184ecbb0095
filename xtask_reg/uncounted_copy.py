"""A copy of a tensor that is invisible to selective activation checkpointing."""

from __future__ import annotations

import torch
from torch import Tensor


def uncounted_copy(tensor: Tensor) -> Tensor:
    """A differentiable copy.

    Selective checkpointing matches saved values to recomputed operations by their order. A tap copies in the first run
    only: if that copy counted, each later ``clone()`` in the model would be given the values of another.
    """
    if torch.compiler.is_compiling() or type(tensor) is not Tensor:  # FakeTensor, DTensor
        return tensor.clone()
    with torch._C._DisableTorchDispatch():
        return tensor.clone()
