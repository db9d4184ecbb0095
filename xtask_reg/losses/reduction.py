"""The reduction over images that every loss offers."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from xtask_reg.losses.shapes import check_some_images

Reduction = Literal["mean", "sum"]


def check_reduction(reduction: str) -> None:
    """Raise ``ValueError`` unless ``reduction`` is ``'mean'`` or ``'sum'``."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction={reduction!r} is unknown; expected 'mean' or 'sum' (over images)")


def reduce_images(per_image: Tensor, reduction: Reduction) -> Tensor:
    """The mean or sum of one value per image, shape ``(B,)``, as a scalar.

    Raises:
        ValueError: if there are no images.
    """
    check_some_images(per_image)
    return per_image.mean() if reduction == "mean" else per_image.sum()
