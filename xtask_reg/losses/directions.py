"""Vectors of length 1."""

from __future__ import annotations

import torch
from torch import Tensor

ZERO_NORM = 1e-8
"""A vector shorter than this has no direction."""


def unit(vectors: Tensor, dim: int) -> Tensor:
    """The vectors along ``dim``, divided by their Euclidean length; 0 without gradient where they have no direction."""
    # the squares of huge features would overflow
    vectors = vectors / vectors.detach().abs().amax(dim, keepdim=True).clamp_min(1)
    square = vectors.square().sum(dim, keepdim=True)
    valid = ~(square <= ZERO_NORM**2)  # what is not a number stays so
    return torch.where(valid, vectors / torch.where(valid, square, 1.0).sqrt(), 0.0)
