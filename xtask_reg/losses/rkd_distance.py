"""Distances between the images of a batch (Park et al. 2019, RKD-D)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtask_reg.losses.batch import check_images, embeddings
from xtask_reg.losses.directions import ZERO_NORM
from xtask_reg.losses.precision import at_least_float32


def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Huber distance between the relative distances of the images in the student and in the teacher.

    .. math:: L = \frac{1}{B (B - 1)} \sum_{i \ne j} l_\delta\bigl(\psi(s_i, s_j), \psi(t_i, t_j)\bigr), \quad
        \psi(x_i, x_j) = \lVert x_i - x_j \rVert_2 / \mu

    with :math:`\mu` the mean distance over the pairs :math:`i \ne j`, and :math:`l_\delta` the Huber loss with delta 1.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019 (RKD-D). There the pairs are summed; this is
    their mean, so that a weight means the same for every batch size. The authors' code averages over all B x B entries,
    which is (B - 1) / B of this.

    Embeddings are compared without normalisation. The authors' teachers for metric learning output embeddings of length
    1; together with a cross-entropy, their code normalises both sides first, which a connector can do here.

    One image has no pairs, and gives 0. Images that all coincide have the distances 0, without gradient. There is no
    second derivative: ``torch.cdist`` has none.

    Args:
        student: embeddings of the student, shape ``(B, D)``; a feature map ``(B, D, *spatial)`` is averaged over its
            locations, as before a classifier (``nn.Flatten()`` as connector compares the whole maps instead).
        teacher: embeddings of the teacher on the same images; only B must be the same.

    Returns:
        A scalar, float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the numbers of images differ, there are none, or a shape is not one of embeddings.

    Example:
        >>> student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
        >>> rkd_distance_loss(student, teacher)
        tensor(0.5208)
    """
    check_images(student, teacher)
    student, teacher = at_least_float32(student, teacher)
    own, source = (_relative_distances(embeddings(features)) for features in (student, teacher))
    return F.smooth_l1_loss(own, source, reduction="sum") / _pairs(student)


def _relative_distances(points: Tensor) -> Tensor:
    """The distances of all pairs, shape ``(B, B)``, in units of their mean."""
    # the squares of huge features would overflow
    points = points / points.detach().abs().amax().clamp_min(1)
    # computed from matrix products, small distances would lose their digits
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / _pairs(points)
    apart = mean > ZERO_NORM
    return torch.where(apart, distances / torch.where(apart, mean, 1.0), 0.0)


def _pairs(images: Tensor) -> int:
    return max(len(images) * (len(images) - 1), 1)


class RKDDistanceLoss(nn.Module):
    """Module form of :func:`rkd_distance_loss`, RKD-D of Park et al. 2019.

    In an MMPose config: ``loss=dict(type='RKDDistanceLoss')``.
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`rkd_distance_loss`."""
        return rkd_distance_loss(student, teacher)
