"""Comparison of tensors by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Both have the same names, and under each the same dtype, shape and values."""
    torch.testing.assert_close(dict(found), dict(expected), rtol=0, atol=0)
