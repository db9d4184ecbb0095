"""Checks that a teacher's output for an image does not depend on the rest of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

_TOLERANCE = 1e-2
_TOLERANCE_OF_HALF = 5e-2


def check_rows(path: str, output: Tensor, images: int) -> None:
    """Raise ``ValueError`` unless the output at a tap has one entry for each of the images."""
    if output.ndim < 1 or len(output) != images or not output.numel():
        raise ValueError(
            f"the teacher's tap {path!r} gave {tuple(output.shape)} for {images} images; a cache needs one entry for "
            "each image: tap another module, or train without cache"
        )


def is_same(given: Tensor, alone: Tensor) -> bool:
    """Whether an output equals that for the image alone, up to rounding, which depends on the batch size.

    The tolerance is 1 % of the norm, or 5 % in half precision, which covers TF32 and bfloat16.
    """
    if given.shape != alone.shape or not torch.equal(given.isfinite().cpu(), alone.isfinite().cpu()):
        return False
    half = alone.dtype.itemsize < 4 or torch.is_autocast_enabled(alone.device.type)
    a, b = (each.cpu().double().nan_to_num(0, 0, 0) for each in (given, alone))
    return bool((a - b).norm() <= (_TOLERANCE_OF_HALF if half else _TOLERANCE) * b.norm())
