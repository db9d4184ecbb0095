"""Directions of vectors, and the angles between them."""

from __future__ import annotations

import torch
from torch import Tensor

ZERO_NORM = 1e-8
"""A vector shorter than this has no direction."""


def unit(vectors: Tensor, dim: int) -> Tensor:
    """The vectors along ``dim``, divided by their Euclidean length; 0 without gradient where they have no direction."""
    vectors, length = _measured(vectors, dim)
    return vectors / length.unsqueeze(dim)


def cosines(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Between vectors along ``dim``; 0 without gradient where one of them has no direction."""
    (one, length), (other, other_length) = _measured(one, dim), _measured(other, dim)
    return (one * other).sum(dim) / length / other_length  # not by the product, whose gradient would be inf * 0


def _measured(vectors: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Vectors of the same directions whose squares do not overflow, and their length: infinite without a direction."""
    vectors = vectors / torch.linalg.vector_norm(vectors.detach(), torch.inf, dim, keepdim=True).clamp_min(1)
    squares = (vectors * vectors).sum(dim)  # the norm of a long vector loses its digits on the CPU
    short = squares <= ZERO_NORM**2  # what is not a number is not
    return vectors, squares.masked_fill(short, torch.inf).sqrt()  # the root of 0 has no second derivative
