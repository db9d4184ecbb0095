"""Angles between the images of a batch (Park et al. 2019, RKD-A)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtask_reg.losses.batch import check_images, embeddings
from xtask_reg.losses.directions import unit
from xtask_reg.losses.precision import at_least_float32, outside_autocast


def rkd_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Huber distance between the angles that the images form in the student and in the teacher.

    .. math:: L = \frac{1}{B (B - 1) (B - 2)} \sum_{i \ne j \ne k \ne i}
        l_\delta\bigl(\psi(s_i, s_j, s_k), \psi(t_i, t_j, t_k)\bigr), \quad
        \psi(x_i, x_j, x_k) = \cos \angle x_i x_j x_k

    with the angle at :math:`x_j`, and :math:`l_\delta` the Huber loss with delta 1.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019 (RKD-A). There the triplets are summed; this is
    their mean, so that a weight means the same for every batch size. The authors' code averages over all B x B x B
    entries, which for images that all differ is (B - 1) (B - 2) / B^2 of this. Embeddings are compared without
    normalisation; see :func:`~xtask_reg.losses.rkd_distance.rkd_distance_loss`.

    One or two images form no angle, and give 0. Where two images of a triplet coincide, the cosine counts as 0, without
    gradient. Memory: B x B embeddings.

    Args:
        student: embeddings of the student, shape ``(B, D)``; a feature map ``(B, D, *spatial)`` is averaged over its
            locations, as before a classifier (``nn.Flatten()`` as connector compares the whole maps instead).
        teacher: embeddings of the teacher on the same images; only B must be the same.

    Returns:
        A scalar, float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the numbers of images differ, there are none, or a shape is not one of embeddings.

    Example:
        >>> student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
        >>> rkd_angle_loss(student, teacher)
        tensor(0.1953)
    """
    check_images(student, teacher)
    student, teacher = at_least_float32(student, teacher)
    own, source = (_cosines(embeddings(features)) for features in (student, teacher))
    images = len(student)
    return F.smooth_l1_loss(own, source, reduction="sum") / max(images * (images - 1) * (images - 2), 1)


def _cosines(points: Tensor) -> Tensor:
    """The cosines of the angles at j, shape ``(j, i, k)``; 0 where two of the three are the same image."""
    same = torch.eye(len(points), dtype=torch.bool, device=points.device)
    sides = unit(points.unsqueeze(0) - points.unsqueeze(1), dim=2)
    with outside_autocast(sides):
        cosines = sides @ sides.transpose(1, 2)
    return cosines.masked_fill(same, 0.0)


class RKDAngleLoss(nn.Module):
    """Module form of :func:`rkd_angle_loss`, RKD-A of Park et al. 2019.

    In an MMPose config: ``loss=dict(type='RKDAngleLoss')``.
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`rkd_angle_loss`."""
        return rkd_angle_loss(student, teacher)
