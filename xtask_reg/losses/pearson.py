"""Pearson correlation of each channel (Cao et al. 2022, PKD)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xtask_reg.losses.batch import check_images
from xtask_reg.losses.precision import at_least_float32
from xtask_reg.losses.shapes import by_location, check_same_shape

CONSTANT = 1e-5
"""A channel is constant if its standard deviation is at most this times the larger of 1 and its largest value."""


def pearson_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""One minus the Pearson correlation of student and teacher in each channel, over the images and locations.

    .. math:: L = \frac{1}{C} \sum_c \frac{1}{2m} \sum_{i=1}^m (\hat s_{c,i} - \hat t_{c,i})^2
        = 1 - \frac{1}{C} \sum_c r(s_c, t_c)

    where :math:`\hat s_c` and :math:`\hat t_c` are the m values of channel c in the batch minus their mean, divided by
    their standard deviation. The scale and the mean of a channel do not matter, unless it is constant.

    Source: Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
    NeurIPS 2022. Here the standard deviation is that of all m values (not m - 1), with which the equation is exact for
    every batch size; with the other one, the value is (m - 1) / m of this.

    The statistics are those of the given images, per process; for one image, those over its locations.
    A constant channel counts as zeros and gets no gradient: the channel adds 0 if it is constant in both, and 1/2 if
    in one of the two. Constant is one whose standard deviation is at most 1e-5, or at most 1e-5 of its largest value
    if that is above 1.

    Args:
        student: features of the student, shape ``(B, C, *spatial)`` or ``(B, C)``.
        teacher: features of the teacher on the same images, same shape.

    Returns:
        A scalar in ``[0, 2]``, float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the shapes are not equal or there are no images.

    Example:
        >>> features = torch.arange(8.0).view(1, 2, 4)
        >>> pearson_loss(-features, features)
        tensor(2.)
    """
    check_same_shape(student, teacher)
    check_images(student, teacher)
    student, teacher = (_standardised(by_location(features)) for features in at_least_float32(student, teacher))
    return (student - teacher).square().mean() / 2


def _standardised(features: Tensor) -> Tensor:
    """Each channel with mean 0 and variance 1 over images and locations; 0 without gradient where it is constant."""
    # the squares of huge features would overflow
    size = features.detach().abs().amax((0, 2), keepdim=True)
    centred = features / size.clamp_min(1)
    centred = centred - centred.mean((0, 2), keepdim=True)
    variance = centred.square().mean((0, 2), keepdim=True)
    varies = ~(variance <= CONSTANT**2)  # NaN is kept
    return torch.where(varies, centred / torch.where(varies, variance, 1.0).sqrt(), 0.0)


class PearsonLoss(nn.Module):
    """Module form of :func:`pearson_loss`, PKD of Cao et al. 2022.

    In an MMPose config: ``loss=dict(type='PearsonLoss')``.
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`pearson_loss`."""
        return pearson_loss(student, teacher)
