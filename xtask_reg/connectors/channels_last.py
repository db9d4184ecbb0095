"""Moves the channels to the last dimension, where parts of a Swin expect them."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelsLast(nn.Module):
    """Channels from first to last: ``(B, C, H, W)`` to ``(B, H, W, C)``, and volumes alike.

    The inverse of :class:`xtask_reg.ChannelsFirst`. For L_CD, if the student's maps have their channels first and the
    source's have them last: it stands before the copy of the source's last layers, its norm and classifier.
    :func:`xtask_reg.shorthand` puts it there by itself.

    Raises:
        ValueError: in the call, for features without locations.

    Example:
        >>> ChannelsLast()(torch.ones(2, 768, 7, 7)).shape
        torch.Size([2, 7, 7, 768])
    """

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim < 3:
            raise ValueError(
                f"features of shape {tuple(features.shape)} are not maps; expected (images, channels, *spatial)"
            )
        return features.movedim(1, -1)
