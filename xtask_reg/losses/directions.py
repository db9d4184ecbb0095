"""Vectors of length 1."""

from __future__ import annotations

import torch
from torch import Tensor

ZERO_NORM = 1e-8
"""A vector shorter than this has no direction."""


def unit(vectors: Tensor, dim: int) -> Tensor:
    """The vectors along ``dim``, divided by their Euclidean length; 0 without gradient where they have no direction."""
    # the squares of huge features would overflow
    vectors = vectors / torch.linalg.vector_norm(vectors.detach(), torch.inf, dim, keepdim=True).clamp_min(1)
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / length.masked_fill(length <= ZERO_NORM, torch.inf)  # what is not a number stays so
