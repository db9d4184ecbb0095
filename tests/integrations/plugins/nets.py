"""Encoders for tests: images ``(B, 3, 64, 64)`` to features ``(B, 64, 2, 2)``."""

from __future__ import annotations

from torch import nn


def with_dropout() -> nn.Sequential:
    """With batch norm and dropout, by which a teacher in train mode would change, or give random outputs."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 8, stride=8), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.Dropout(0.5)),
        *(nn.Conv2d(16, 64, 4, stride=4), nn.BatchNorm2d(64)),
    )
