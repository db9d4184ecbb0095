"""A copy of a tensor that is invisible to selective activation checkpointing."""

from __future__ import annotations

import torch
from torch import Tensor

from xtask_reg.plain_tensor import computes_as_plain


def uncounted_copy(tensor: Tensor) -> Tensor:
    """A differentiable copy, which is a plain tensor even where a subclass only adds attributes.

    Selective checkpointing matches saved values to recomputed operations by their order. A tap copies in the first run
    only: if that copy counted, each later ``clone()`` in the model would be given the values of another.
    """
    if torch.compiler.is_compiling() or not computes_as_plain(tensor):
        return tensor.clone()
    with torch._C.DisableTorchFunctionSubclass(), torch._C._DisableTorchDispatch():
        return tensor.clone()
