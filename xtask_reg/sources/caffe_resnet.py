"""ResNet-50 as Caffe defines it, for the VGGFace2 networks (Cao et al., FG 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torchvision.models import ResNet


def caffe_resnet50(num_classes: int = 8631) -> ResNet:
    """ResNet-50 with random weights, images (B, 3, H, W) to logits (B, ``num_classes``).

    It is torchvision's network, submodule and parameter names included, but for two things of the Caffe definition that
    the VGGFace2 networks were trained with (Cao et al., "VGGFace2: A dataset for recognising faces across pose and
    age", FG 2018): blocks that halve the size do so in their first 1x1 convolution (``conv1``), not in the 3x3
    (``conv2``), and the first max-pooling has no padding and rounds the size up (both 56 x 56 from 224 x 224, but
    looking at other pixels).

    The files that ``import_vggface2`` writes fit it. They expect RGB in 0..255 minus the mean of their metadata. The
    networks were trained with 224 x 224 crops; any size works, since the average before ``fc`` is over all locations.

    Raises:
        ImportError: if torchvision is not installed.
    """
    from torchvision.models import resnet50

    net = resnet50(weights=None, num_classes=num_classes)
    net.maxpool = nn.MaxPool2d(3, stride=2, padding=0, ceil_mode=True)
    for layer in (net.layer2, net.layer3, net.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    return net
