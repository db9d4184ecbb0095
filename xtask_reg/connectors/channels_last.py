"""Feature maps, brought into the order that a part of a Swin takes."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelsLast(nn.Module):
    """``(B, C, H, W)`` to ``(B, H, W, C)``, and volumes alike: what :class:`xtask_reg.ChannelsFirst` does, undone.

    For a student whose maps have their channels first, before a copy of layers of a source whose maps have them last:
    its norm and classifier, for L_CD. Names of regularizers put it there themselves.

    Raises:
        ValueError: at the call, for features without locations.

    Example:
        >>> ChannelsLast()(torch.ones(2, 768, 7, 7)).shape
        torch.Size([2, 7, 7, 768])
    """

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim < 3:
            raise ValueError(
                f"features of shape {tuple(features.shape)} are no maps; expected (images, channels, *spatial)"
            )
        return features.movedim(1, -1)
