"""Moves the channels to dimension 1, where losses expect them."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelsFirst(nn.Module):
    """Channels from last to first: ``(B, N, C)`` to ``(B, C, N)``, ``(B, H, W, C)`` to ``(B, C, H, W)``; volumes alike.

    All losses take dimension 1 for the channels, and the dimensions after it for locations. Put this connector on each
    side whose tap gives tokens, as in a ViT, so that each token becomes a location; or maps with their channels last,
    as in the Swin of timm and torchvision. :func:`xtask_reg.shorthand` does so by itself.

    Raises:
        ValueError: in the call, for features without locations.

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
