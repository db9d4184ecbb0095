"""Directions of vectors, and the angles between them."""

from __future__ import annotations

import torch
from torch import Tensor

ZERO_NORM = 1e-8
"""A vector shorter than this has no direction."""


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Unit vectors along ``dim``; those without a direction become 0, without gradient."""
    vectors, length = _measured(vectors, dim)
    return vectors / length.unsqueeze(dim)


def cosines(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """The cosines between vectors along ``dim``; 0 without gradient if one of the two has no direction."""
    (one, length), (other, other_length) = _measured(one, dim), _measured(other, dim)
    return (one * other).sum(dim) / length / other_length  # dividing by the product would give the gradient inf * 0


def _measured(vectors: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The vectors, scaled so that their squares do not overflow, and their lengths; infinite without a direction."""
    vectors = vectors / torch.linalg.vector_norm(vectors.detach(), torch.inf, dim, keepdim=True).clamp_min(1)
    squares = (vectors * vectors).sum(dim)  # vector_norm loses digits for long vectors on the CPU
    short = squares <= ZERO_NORM**2  # false for NaN, which is thus kept
    return vectors, squares.masked_fill(short, torch.inf).sqrt()  # sqrt(0) has no second derivative
