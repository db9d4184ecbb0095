"""Channel attention transfer (after Fu et al. 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from xtask_reg.losses.attention import attention, check_power
from xtask_reg.losses.precision import at_least_float32
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images


def channel_attention_loss(
    student: Tensor, teacher: Tensor, power: float = 2.0, reduction: Reduction = "mean"
) -> Tensor:
    r"""Squared distance between the channel attention of student and teacher: which features do they use?

    .. math:: L_{CA} = \frac{1}{B} \sum_i \left\lVert \frac{q(A^s_i)}{\lVert q(A^s_i) \rVert_2} -
        \frac{q(A^t_i)}{\lVert q(A^t_i) \rVert_2} \right\rVert_2^2, \quad q_c(A) = \frac{1}{L} \sum_l |A_{c,l}|^p

    Source: the idea is of Fu, Jiao, Suttie, Noble, "Facial Anatomical Landmark Detection using Regularized Transfer
    Learning with Application to Fetal Alcohol Syndrome Recognition", 2021, which matches attention in space and in
    channels. Only its abstract was read: the formula is ours, the counterpart over channels of
    :func:`~xtask_reg.losses.attention_transfer.attention_transfer_loss`.

    Args:
        student: features of the student, shape ``(B, C, *spatial)`` or ``(B, C)``.
        teacher: features of the teacher on the same images, with the same channels; the resolution may differ.
        power: p, at least 1; the larger it is, the more the strongest activations count. Between 1 and 2 a feature
            that is 0 has no second derivative.
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar in ``[0, 2]`` (times B for ``'sum'``), float32 even under autocast, float64 for float64 input. An
        image whose features are all 0 has no attention: its distance to another is 1, without gradient.

    Raises:
        ValueError: if images or channels do not agree or there are none, or for an unknown option.

    Example:
        >>> first, second = torch.tensor([[[3.0, 3.0], [0.0, 0.0]]]), torch.tensor([[[0.0], [-1.0]]])
        >>> channel_attention_loss(first, second)
        tensor(2.)
    """
    check_power(power)
    check_reduction(reduction)
    if student.ndim < 2 or student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            f"student features {tuple(student.shape)} and teacher features {tuple(teacher.shape)} must have the same "
            "images and channels, (images, channels, *spatial); where they cannot, put a connector before the loss"
        )
    student, teacher = (attention(features, power, summed=2) for features in at_least_float32(student, teacher))
    return reduce_images((student - teacher).square().sum(dim=1), reduction)


class ChannelAttentionLoss(nn.Module):
    """Module form of :func:`channel_attention_loss`.

    In an MMPose config: ``loss=dict(type='ChannelAttentionLoss', power=2.0)``.
    """

    def __init__(self, power: float = 2.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_power(power)
        check_reduction(reduction)
        self.power = power
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`channel_attention_loss`."""
        return channel_attention_loss(student, teacher, self.power, self.reduction)

    def extra_repr(self) -> str:
        return f"power={self.power}, reduction={self.reduction!r}"
