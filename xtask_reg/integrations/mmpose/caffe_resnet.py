"""The ResNet of networks trained in Caffe, such as those of VGGFace2."""

from __future__ import annotations

from typing import Any

from mmpose.models.backbones import ResNet
from mmpose.registry import MODELS
from torch import nn


@MODELS.register_module()
class CaffeResNet(ResNet):
    """MMPose's ``ResNet`` as Caffe computes it: the stride on the first 1x1 convolution, and ceil-mode max-pooling.

    Parameters and their names are those of ``ResNet``; so are the arguments, but for ``style``, which is ``'caffe'``;
    ``zero_init_residual`` is off by default, since it would zero a part of what was loaded.

    Raises:
        TypeError: if ``style`` is given.
    """

    def __init__(self, depth: int, **kwargs: Any) -> None:
        super().__init__(depth, style="caffe", **{"zero_init_residual": False, **kwargs})

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        super()._make_stem_layer(in_channels, stem_channels)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=0, ceil_mode=True)
