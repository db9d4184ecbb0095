"""Cosine and smooth L1 between features (Ranzinger et al. 2024, AM-RADIO)."""

from __future__ import annotations

import math
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtask_reg.losses.directions import unit
from xtask_reg.losses.precision import at_least_float32
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images
from xtask_reg.losses.shapes import by_location, check_same_shape


def cosine_smooth_l1_loss(
    student: Tensor,
    teacher: Tensor,
    cosine_weight: float = 0.9,
    smooth_l1_weight: float = 0.1,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cosine distance and, with less weight, smooth L1 distance between the features at each location.

    .. math:: L = \frac{\alpha}{L} \sum_l \bigl(1 - \cos(s_l, t_l)\bigr)
        + \frac{\beta}{L C} \sum_{l, c} \mathrm{smooth}_{L1}(s_{l, c} - t_{l, c})

    Source: Ranzinger et al., "AM-RADIO: Agglomerative Vision Foundation Model, Reduce All Domains Into One", CVPR 2024
    (Eq. 3), with its alpha = 0.9 and beta = 0.1. The smooth L1 loss has its square part below a difference of 1.

    1 - cos is computed as half the squared distance of the two directions. A zero vector has no direction and gets no
    gradient of this part, which is 1/2 against any other vector and 0 against another zero vector.

    Args:
        student: features of the student, shape ``(B, C, *spatial)`` or ``(B, C)``.
        teacher: features of the teacher on the same images, same shape.
        cosine_weight: :math:`\alpha`, not negative.
        smooth_l1_weight: :math:`\beta`, not negative.
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar, float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the shapes are not equal, there are no images, a weight is negative or not finite, or the
            reduction is unknown.

    Example:
        >>> features = torch.ones(2, 8, 4, 4)
        >>> cosine_smooth_l1_loss(features, -features)
        tensor(1.9500)
    """
    _check_weights(cosine_weight, smooth_l1_weight)
    check_reduction(reduction)
    check_same_shape(student, teacher)
    student, teacher = (by_location(features) for features in at_least_float32(student, teacher))
    cosine = (unit(student, dim=1) - unit(teacher, dim=1)).square().sum(dim=1).mean(dim=1) / 2
    difference = student - teacher  # so that autograd saves no tensor of the teacher: it may be an inference tensor
    smooth_l1 = F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none").mean((1, 2))
    return reduce_images(cosine_weight * cosine + smooth_l1_weight * smooth_l1, reduction)


def _check_weights(cosine_weight: float, smooth_l1_weight: float) -> None:
    for name, weight in (("cosine_weight", cosine_weight), ("smooth_l1_weight", smooth_l1_weight)):
        if not (isinstance(weight, Real) and 0 <= weight < math.inf):
            raise ValueError(f"{name}={weight!r}; expected a finite number >= 0")


class CosineSmoothL1Loss(nn.Module):
    """Module form of :func:`cosine_smooth_l1_loss`, the feature loss of AM-RADIO (Ranzinger et al. 2024, Eq. 3).

    In an MMPose config: ``loss=dict(type='CosineSmoothL1Loss')``.
    """

    def __init__(
        self, cosine_weight: float = 0.9, smooth_l1_weight: float = 0.1, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        _check_weights(cosine_weight, smooth_l1_weight)
        check_reduction(reduction)
        self.cosine_weight = cosine_weight
        self.smooth_l1_weight = smooth_l1_weight
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`cosine_smooth_l1_loss`."""
        return cosine_smooth_l1_loss(student, teacher, self.cosine_weight, self.smooth_l1_weight, self.reduction)

    def extra_repr(self) -> str:
        return (
            f"cosine_weight={self.cosine_weight}, smooth_l1_weight={self.smooth_l1_weight}, "
            f"reduction={self.reduction!r}"
        )
