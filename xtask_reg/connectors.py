"""Connectors: small networks between a tap and a loss."""

from __future__ import annotations

import copy

from torch import Tensor, nn


class PooledClassifier(nn.Module):
    """Global average pooling, then a classifier: works on a feature map of any size.

    Args:
        classifier: the last layer, ``nn.Linear(C, classes)`` or a 1x1 ``nn.Conv2d``.

    Raises:
        TypeError: if ``classifier`` is something else.

    Shape: ``(B, C, *spatial)`` or ``(B, C)`` to ``(B, classes)``.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        one_by_one = isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1)
        if not (isinstance(classifier, nn.Linear) or one_by_one):
            raise TypeError(f"the classifier is {classifier!r}; expected an nn.Linear or a 1x1 nn.Conv2d")
        self.fc = classifier

    def forward(self, features: Tensor) -> Tensor:
        pooled = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
        if isinstance(self.fc, nn.Conv2d):
            pooled = pooled[:, :, None, None]
        return self.fc(pooled).flatten(1)


def retained_classifier(classifier: nn.Module, trainable: bool = True) -> PooledClassifier:
    """The student connector of L_CD: the g^t of Fu et al. 2020 (Eq. 3).

    A copy of the source classifier behind global average pooling. On the student's last feature map it gives the
    logits that the student would have in the source task.

    Args:
        classifier: the source's last layer (``nn.Linear`` or 1x1 ``nn.Conv2d``) or a :class:`PooledClassifier`.
        trainable: whether the copy trains with the student (the paper's theta_2^t suggests it) or stays as it is.

    Raises:
        TypeError: if ``classifier`` is something else.
    """
    own = copy.deepcopy(classifier)
    pooled = own if isinstance(own, PooledClassifier) else PooledClassifier(own)
    return pooled.requires_grad_(trainable)
