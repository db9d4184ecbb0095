"""A copy of a tensor that selective activation checkpointing does not count."""

from __future__ import annotations

import torch
from torch import Tensor


def uncounted_copy(tensor: Tensor) -> Tensor:
    """A differentiable copy.

    Selective checkpointing keeps what its policy chooses, and takes it up by the order of each operation when it
    computes again. A tap copies in the first run alone: were that counted, each later ``clone()`` of the model would be
    given another's values.
    """
    if torch.compiler.is_compiling() or type(tensor) is not Tensor:  # FakeTensor, DTensor
        return tensor.clone()
    with torch._C._DisableTorchDispatch():
        return tensor.clone()
