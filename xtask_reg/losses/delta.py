"""Channel-weighted distance between feature maps (Li et al. 2019, DELTA)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xtask_reg.losses.precision import at_least_float32
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images
from xtask_reg.losses.shapes import by_location, check_same_shape


def delta_loss(
    student: Tensor,
    teacher: Tensor,
    channel_weights: Tensor | Sequence[float] | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Squared distance between the feature maps of student and teacher, each channel with a weight of its own.

    .. math:: L = \frac{1}{N} \sum_i \sum_j \frac{W_j}{HW} \lVert FM_j^s(I_i) - FM_j^t(I_i) \rVert_2^2

    Source: Li et al., "DELTA: Deep Learning Transfer using Feature Map with Attention for Convolutional Networks",
    ICLR 2019, where :math:`W` is a softmax over the C channels (:func:`xtask_reg.delta_channel_weights`).
    The paper's equation has no :math:`1/HW`: it is H W times this. The authors' code divides by H W, multiplies by
    C / 2 and sums over the images: ``reduction='sum'`` times C / 2; it adds several layers up, each a term here.
    Without attention it halves the sum over all: ``reduction='sum'`` and ``channel_weights=None``, times C H W / 2.
    Its taps are the last convolutions of four stages, before batch norm and shortcut: ``'layer1.2.conv3'`` and so on in
    a ResNet-50. Half the squared norm of the new head is added, times 0.01: ``weight_decay`` as of
    :func:`~xtask_reg.losses.l2_sp.l2_sp_penalty`.

    Args:
        student: features of the student, shape ``(B, C, *spatial)`` or ``(B, C)``.
        teacher: features of the teacher on the same images, same shape.
        channel_weights: C numbers that are not negative, which sum to 1 in the paper; None for 1 / C each, the mean
            squared difference. The values of a tensor are not checked here (:class:`DELTALoss` does it once).
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar, float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the shapes are not equal, the weights are not one for each channel or are negative or not finite,
            there are no images, or the reduction is unknown.

    Example:
        >>> features = torch.ones(2, 2, 4, 4)
        >>> delta_loss(features, -features, channel_weights=[0.75, 0.25])
        tensor(4.)
    """
    check_reduction(reduction)
    check_same_shape(student, teacher)
    if channel_weights is not None and not isinstance(channel_weights, Tensor):
        channel_weights = checked_weights(channel_weights)
    _check_count(channel_weights, channels=student.shape[1])
    student, teacher = at_least_float32(student, teacher)
    per_channel = by_location(student - teacher).square().mean(dim=2)
    if channel_weights is None:
        return reduce_images(per_channel.mean(dim=1), reduction)
    return reduce_images((per_channel * channel_weights.to(per_channel)).sum(dim=1), reduction)


def checked_weights(weights: Tensor | Sequence[float]) -> Tensor:
    """A copy of the channel weights as a tensor, float64 if they were plain numbers.

    Raises:
        ValueError: if they are not one row of finite numbers >= 0, at least one of them above 0.
    """
    given = weights.detach().clone() if isinstance(weights, Tensor) else torch.tensor(weights, dtype=torch.float64)
    numbers = given.flatten().tolist()
    if given.ndim != 1 or not all(0 <= number < float("inf") for number in numbers) or not any(numbers):
        raise ValueError(f"channel_weights={weights!r}; expected one finite number >= 0 per channel, not all of them 0")
    return given


def _check_count(channel_weights: Tensor | None, channels: int) -> None:
    if channel_weights is not None and channel_weights.shape != (channels,):
        raise ValueError(
            f"channel_weights of shape {tuple(channel_weights.shape)} for features of {channels} channels; "
            "expected one weight per channel"
        )


class DELTALoss(nn.Module):
    """Module form of :func:`delta_loss`, the behavioural regularizer of Li et al. 2019.

    The weights are a buffer: they move with the module, but are an option and so in no ``state_dict``.

    In an MMPose config: ``loss=dict(type='DELTALoss')``.
    """

    channel_weights: Tensor | None

    def __init__(self, channel_weights: Tensor | Sequence[float] | None = None, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        weights = None if channel_weights is None else checked_weights(channel_weights).to(torch.float32)
        self.register_buffer("channel_weights", weights, persistent=False)
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`delta_loss`."""
        return delta_loss(student, teacher, self.channel_weights, self.reduction)

    def extra_repr(self) -> str:
        weights = None if self.channel_weights is None else self.channel_weights.tolist()
        shown = f"<{len(weights)} numbers>" if weights is not None and len(weights) > 8 else weights
        return f"channel_weights={shown}, reduction={self.reduction!r}"
