"""Feature maps brought to a fixed size."""

from __future__ import annotations

from torch import Tensor, nn

from xtask_reg.resized import resized
from xtask_reg.sizes import checked_size


class Resize(nn.Module):
    """Bilinear interpolation to a fixed size, for taps of different resolution; on either side.

    Pixels are areas (``align_corners=False``). Where the map shrinks, the filter is widened (``antialias=True``), so
    that every cell of the map contributes.

    Args:
        size: height and width in cells, or one number for both.

    Raises:
        ValueError: for a size that is not of positive whole numbers; in the call, for features that are not maps.

    Shape: ``(B, C, H, W)`` to ``(B, C, *size)``, in the precision of the features.

    Example:
        >>> Resize(14)(torch.ones(2, 64, 7, 7)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        if type(size) is int and size > 0:
            size = (size, size)
        self.size: tuple[int, int] = checked_size(size, "height and width in cells", "one for both")

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim != 4:
            raise ValueError(
                f"features of shape {tuple(features.shape)} are not maps; expected (images, channels, H, W)"
            )
        return resized(features, self.size)

    def extra_repr(self) -> str:
        return f"size={self.size}"
