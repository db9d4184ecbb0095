"""Whether the output for an image depends on the rest of its batch."""

from __future__ import annotations

import torch
from torch import Tensor

_TOLERANCE = 1e-2
_OF_ROUNDED = 5e-2


def check_rows(path: str, output: Tensor, images: int) -> None:
    """Raise ``ValueError`` unless the output at a tap has one entry for each of the images."""
    if output.ndim < 1 or len(output) != images or not output.numel():
        raise ValueError(
            f"the teacher's tap {path!r} gave {tuple(output.shape)} for {images} images; a cache needs one entry for "
            "each image: tap another module, or train without cache"
        )


def check_independence(path: str, together: Tensor, alone: Tensor) -> None:
    """Raise ``ValueError`` if an image's output within a batch and by itself differ by more than rounding.

    Args:
        path: the tap.
        together: the output for the image in its batch.
        alone: the output for the image alone.
    """
    if together.shape == alone.shape:
        rounded = together.dtype.itemsize < 4 or torch.is_autocast_enabled(together.device.type)
        a, b = together.double(), alone.double()
        largest = b.nan_to_num(0, 0, 0).abs().max().item()
        tolerance = _OF_ROUNDED if rounded else _TOLERANCE
        if torch.allclose(a, b, rtol=0, atol=tolerance * largest, equal_nan=True):
            return
    raise ValueError(
        f"the teacher's output at {path!r} for an image is another one if the image is computed alone than in its "
        "batch: it depends on the other images (batch statistics, attention over the batch), or is random, and cannot "
        "be cached. Train without cache, or tap a module before that"
    )
