"""The warnings of a regularizer."""

from __future__ import annotations

import warnings

from torch import Tensor, nn

import xtask_reg as xr


def said(words: str, keep: xr.CrossTaskRegularizer, student: nn.Module, images: Tensor) -> list[str]:
    """The warnings with these words, in two steps."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            student(images)
            keep()
    return [str(each.message) for each in caught if words in str(each.message)]
