"""dlib's face recognition network, a ResNet-29 with a 128-dimensional embedding (D. King, dlib)."""

from __future__ import annotations

import os
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtask_reg.inputs import InputConvention
from xtask_reg.sources.covering import load_covering
from xtask_reg.sources.weights import load_weights

DLIB_INPUT = InputConvention(mean=(122.782, 117.001, 104.298), std=(255, 255, 255), value_range=255)
"""RGB in 0..255 minus the mean, divided by 255 as where the published file is from; dlib itself divides by 256."""

_BLOCKS = (
    *("32_1", "32_2", "32_3", "64_down", "64_1", "64_2", "64_3"),
    *("128_down", "128_1", "128_2", "256_down", "256_1", "256_2", "256_down_out"),
)
_LAST_OF_STAGES = ("32_3", "64_3", "128_2", "256_2")


class ConvAffine(nn.Module):
    """Convolution, then a scale and a shift per channel: ``weight * conv(x) + bias``."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv = nn.Conv2d(in_channels, channels, kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.weight[:, None, None] + self.bias[:, None, None]


class ResidualBlock(nn.Module):
    """``relu(x + conv2(relu(conv1(x))))``; with ``down``, at half the size and possibly with more channels.

    Down blocks convolve with stride 2 and no padding, and shrink ``x`` by 2 x 2 average pooling. The branch may then be
    one cell smaller, and ``x`` may have fewer channels: zeros fill up the branch at the right and bottom, and ``x``
    after its last channel.
    """

    def __init__(self, in_channels: int, channels: int, down: bool) -> None:
        super().__init__()
        self.down = down
        stride, padding = (2, 0) if down else (1, 1)
        self.conv1 = ConvAffine(in_channels, channels, 3, stride, padding)
        self.conv2 = ConvAffine(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.down:
            x = F.avg_pool2d(x, 2)
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + y)


class DlibResNet29(nn.Module):
    """dlib's face recognition ResNet-29, as an embedding or as a dense feature map.

    The parameters are named as in the published PyTorch state dict (``dlib_face_resnet29_128d.pth``). There is no batch
    norm, so the network trains with small learning rates only. No operation is in place: what a forward hook on any
    submodule received keeps its values.

    Args:
        dense: ``False`` is the published network: images (B, 3, H, W) to an embedding (B, 128), for H, W >= 103
            (nominally 150). ``True`` stops before the block ``256_down_out`` and pads stem and pooling, so that H and W
            divisible by 32 give (B, 256, H / 32, W / 32), for H, W >= 45; it has no parameters of the parts left out.
        every_stage: give the last maps of all four stages, for a decoder that reads them: of 32, 64, 128 and 256
            channels; the first has a quarter of the image's sides, each other half of those before it.

    The images are as :data:`DLIB_INPUT` says.

    Raises:
        ValueError: for ``every_stage`` of the published network; in ``forward``, for anything but a batch of
            three-channel images that are large enough.
    """

    def __init__(self, dense: bool = False, every_stage: bool = False) -> None:
        super().__init__()
        if every_stage and not dense:
            raise ValueError("every_stage=True with dense=False; expected dense=True: an embedding has no stages")
        self.dense = dense
        self.every_stage = every_stage
        self.min_size = 45 if dense else 103
        self.stem = ConvAffine(3, 32, 7, stride=2, padding=3 if dense else 0)
        self.blocks = nn.Sequential(_residual_blocks(_BLOCKS[:-1] if dense else _BLOCKS))
        if not dense:
            self.fc = nn.Linear(256, 128, bias=False)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < self.min_size:
            raise ValueError(
                f"images of shape {tuple(images.shape)}; expected (B, 3, H, W) with H and W of at least "
                f"{self.min_size}: resize them"
            )
        x = F.max_pool2d(F.relu(self.stem(images)), 3, stride=2, padding=1 if self.dense else 0)
        if self.every_stage:
            return self._stages(x)
        x = self.blocks(x)
        return x if self.dense else self.fc(x.mean((2, 3)))

    def _stages(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for name, block in self.blocks.named_children():
            x = block(x)
            if name in _LAST_OF_STAGES:
                maps.append(x)
        return tuple(maps)


def _residual_blocks(names: tuple[str, ...]) -> OrderedDict[str, nn.Module]:
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    in_channels = 32
    for name in names:
        channels = int(name.partition("_")[0])
        blocks[name] = ResidualBlock(in_channels, channels, down="_down" in name)
        in_channels = channels
    return blocks


def dlib_resnet29(weights: str | os.PathLike[str] | None = None) -> DlibResNet29:
    """The embedding network, (B, 3, H, W) to (B, 128); with the published file ``weights``, or random.

    Raises:
        FileNotFoundError, ValueError: if the file is missing, unreadable, or of another network.
    """
    net = DlibResNet29()
    if weights is not None:
        load_covering(net, load_weights(weights), name=str(weights))
    return net


def dlib_resnet29_dense(weights: str | os.PathLike[str] | None = None, every_stage: bool = False) -> DlibResNet29:
    """The dense network, (B, 3, H, W) to (B, 256, H / 32, W / 32); with the published file ``weights``, or random.

    With ``every_stage`` it gives the maps of all stages, as :class:`DlibResNet29` describes.

    Raises:
        FileNotFoundError, ValueError: if the file is missing, unreadable, or of another network.
    """
    net = DlibResNet29(dense=True, every_stage=every_stage)
    if weights is not None:
        load_covering(net, load_weights(weights), ignore=("blocks.256_down_out.", "fc."), name=str(weights))
    return net
