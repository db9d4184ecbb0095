"""Features whose channels are last, brought into the order that losses take."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelsFirst(nn.Module):
    """``(B, N, C)`` to ``(B, C, N)``, ``(B, H, W, C)`` to ``(B, C, H, W)``, and volumes alike.

    All losses take dimension 1 for the channels, and what follows for locations. Put it on a side whose tap gives
    tokens, as those of a ViT do, so that each token becomes a location, or maps with their channels last, as those of
    Swin in timm and torchvision do: on both sides, or on one where only that one's are last. Names of regularizers put
    it there themselves.

    Raises:
        ValueError: at the call, for features without locations.

    Example:
        >>> ChannelsFirst()(torch.ones(2, 197, 384)).shape
        torch.Size([2, 384, 197])
        >>> ChannelsFirst()(torch.ones(2, 7, 7, 768)).shape
        torch.Size([2, 768, 7, 7])
    """

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim < 3:
            raise ValueError(
                f"features of shape {tuple(features.shape)} are neither tokens nor maps; expected (images, tokens, "
                "channels) or (images, *spatial, channels)"
            )
        return features.movedim(-1, 1)
