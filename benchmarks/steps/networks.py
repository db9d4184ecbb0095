"""Students and sources whose training steps are timed: an encoder with MMPose's deconvolution head, and its source."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn

import xtask_reg.integrations.mmpose  # noqa: F401  makes mmpose importable
from xtask_reg import PooledClassifier
from xtask_reg.integrations.mmengine.source import SourceNetwork

LANDMARKS, CLASSES, STRIDE = 14, 1000, 4


class Detector(nn.Module):
    """Images ``(B, 3, H, W)`` to heatmaps ``(B, LANDMARKS, H / 4, W / 4)``."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


@dataclass(frozen=True)
class Case:
    """An encoder that returns the outputs of its four stages, and the size of its images.

    Args:
        encoder: builds the encoder.
        channels: of its last stage.
        paths: of its stages.
        side: of the images in pixels.
    """

    encoder: Callable[[], nn.Module]
    channels: int
    paths: tuple[str, ...]
    side: int

    def source(self) -> SourceNetwork:
        """A classification network whose batch norms have the statistics of images from :meth:`batch`."""
        network = SourceNetwork(self.encoder(), PooledClassifier(nn.Linear(self.channels, CLASSES)))
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = None  # a plain mean over all batches
        with torch.no_grad():
            for _ in range(2):
                network(self.batch(4)[0])
        return network.eval()

    def student(self, source: SourceNetwork) -> Detector:
        """A detector that starts from the source's encoder; all of it trains."""
        from mmpose.models import HeatmapHead

        detector = Detector(copy.deepcopy(source.backbone), HeatmapHead(self.channels, LANDMARKS))
        return detector.requires_grad_(True).train()

    def batch(self, images: int, side: int | None = None) -> tuple[Tensor, Tensor]:
        """Smooth random images and heatmaps."""
        side = side or self.side
        coarse = torch.randn(images, 3, side // 8, side // 8)
        heatmaps = torch.rand(images, LANDMARKS, side // STRIDE, side // STRIDE)
        return nn.functional.interpolate(coarse, size=(side, side), mode="bilinear"), heatmaps


def _resnet(depth: int) -> Callable[[], nn.Module]:
    def encoder() -> nn.Module:
        from mmpose.models import ResNet

        return ResNet(depth, out_indices=(0, 1, 2, 3), zero_init_residual=False)

    return encoder


def _timm(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, features_only=True)


RESNET_STAGES = tuple(f"backbone.layer{stage}" for stage in (1, 2, 3, 4))
CASES = {
    "ResNet-50, 256 px": Case(_resnet(50), 2048, RESNET_STAGES, 256),
    "ResNet-50, 128 px": Case(_resnet(50), 2048, RESNET_STAGES, 128),
    "ResNet-18, 128 px": Case(_resnet(18), 512, RESNET_STAGES, 128),
    "EdgeNeXt-S, 256 px": Case(
        _timm("edgenext_small"), 304, tuple(f"backbone.stages_{stage}" for stage in range(4)), 256
    ),
}
