"""Tokens of a transformer, brought into the order of feature maps."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelsFirst(nn.Module):
    """``(B, N, C)`` to ``(B, C, N)``: each token becomes a location.

    All losses take dimension 1 for the channels. Put it on both sides where the taps give tokens.

    Raises:
        ValueError: at the call, for features that are not tokens.

    Example:
        >>> ChannelsFirst()(torch.ones(2, 197, 384)).shape
        torch.Size([2, 384, 197])
    """

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 3:
            raise ValueError(
                f"features of shape {tuple(tokens.shape)} are no tokens; expected (images, tokens, channels)"
            )
        return tokens.transpose(1, 2)
