"""Average pooling, then the classifier of the source."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PooledClassifier(nn.Module):
    """Average pooling, then a classifier: takes a feature map of any size.

    Args:
        classifier: the last layer, ``nn.Linear(C, classes)`` or a 1x1 ``nn.Conv2d``.
        window: None for global average pooling; or the side, in cells, of the window that the source network pools over
            (7 for ResNets made for 224 px). On a larger map the window slides by one cell, and the logits are the mean
            over its positions; on a map of exactly that size it is global pooling.

    Raises:
        TypeError: if ``classifier`` is something else.
        ValueError: for a window that is not a positive whole number; in the call, for a window that is larger than the
            map, or features of other than C channels.

    Shape: ``(B, C, *spatial)`` or ``(B, C)`` to ``(B, classes)``; with a window ``(B, C, H, W)`` only. The logits have
    the precision of the classifier.
    """

    def __init__(self, classifier: nn.Module, window: int | None = None) -> None:
        super().__init__()
        wide = isinstance(classifier, nn.Conv2d) and classifier.kernel_size != (1, 1)
        if wide or not isinstance(classifier, (nn.Linear, nn.Conv2d)):
            raise TypeError(f"the classifier is {classifier!r}; expected an nn.Linear or a 1x1 nn.Conv2d")
        if window is not None and (type(window) is not int or window < 1):
            raise ValueError(f"window={window!r}; expected a whole number of cells above 0, or None")
        self.fc = classifier
        self.window = window

    def forward(self, features: Tensor) -> Tensor:
        channels = self.fc.in_channels if isinstance(self.fc, nn.Conv2d) else self.fc.in_features
        if features.ndim < 2 or features.shape[1] != channels:
            raise ValueError(
                f"features of shape {tuple(features.shape)} for a classifier of {channels} channels; expected (images, "
                f"{channels}, *spatial): if the student has another number, put xr.Projection before it"
            )
        if self.window is not None:
            features = _sliding_average(features, self.window)
        pooled = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
        if isinstance(self.fc, nn.Conv2d):
            pooled = pooled[:, :, None, None]
        return self.fc(pooled.to(self.fc.weight.dtype)).flatten(1)

    def extra_repr(self) -> str:
        return f"window={self.window}"


def _sliding_average(features: Tensor, window: int) -> Tensor:
    if features.ndim != 4 or min(features.shape[2:]) < window:
        raise ValueError(
            f"a feature map of shape {tuple(features.shape)} cannot be pooled with window={window}; expected "
            f"(B, C, H, W) of at least {window} x {window} cells: use larger images, or window=None"
        )
    return F.avg_pool2d(features, window, stride=1)


def retained_classifier(classifier: nn.Module, trainable: bool = True) -> PooledClassifier:
    """A copy of the source classifier, as the student connector of L_CD: the g^t of Fu et al. 2020 (Eq. 3).

    It stands behind global average pooling. On the student's last feature map it gives the logits that the student
    would have in the source task. Since it trains, the copy of a classifier in half precision is in float32.

    Args:
        classifier: the source's last layer (``nn.Linear`` or 1x1 ``nn.Conv2d``) or a :class:`PooledClassifier`.
        trainable: whether the copy trains with the student (the paper's theta_2^t suggests it) or stays as it is.

    Raises:
        TypeError: if ``classifier`` is something else.
    """
    own = copy.deepcopy(classifier)
    pooled = own if isinstance(own, PooledClassifier) else PooledClassifier(own)
    if pooled.fc.weight.dtype in (torch.float16, torch.bfloat16):
        pooled.float()
    return pooled.requires_grad_(trainable)
