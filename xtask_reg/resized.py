"""Images and feature maps in another size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of ``(B, C, H, W)`` to ``(B, C, *size)``, in the precision of the maps.

    Pixels are areas (``align_corners=False``); where the map shrinks, the filter is widened (``antialias=True``).
    """
    # half precision has no antialiased kernel on every device
    precise = maps.to(torch.promote_types(maps.dtype, torch.float32)) if maps.is_floating_point() else maps
    return F.interpolate(precise, size, mode="bilinear", align_corners=False, antialias=True).to(maps.dtype)
