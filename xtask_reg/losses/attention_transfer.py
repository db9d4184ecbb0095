"""Spatial attention transfer (Zagoruyko & Komodakis 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from xtask_reg.losses.attention import attention, check_power
from xtask_reg.losses.precision import at_least_float32
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images
from xtask_reg.losses.shapes import check_same_locations


def attention_transfer_loss(
    student: Tensor, teacher: Tensor, power: float = 2.0, reduction: Reduction = "mean"
) -> Tensor:
    r"""Squared distance between the spatial attention maps of student and teacher: where do they look?

    .. math:: L_{AT} = \frac{1}{B} \sum_i \left\lVert \frac{Q(A^s_i)}{\lVert Q(A^s_i) \rVert_2} -
        \frac{Q(A^t_i)}{\lVert Q(A^t_i) \rVert_2} \right\rVert_2^2, \quad Q(A) = \sum_c |A_c|^p

    Source: Zagoruyko, Komodakis, "Paying More Attention to Attention", 2017 (Eq. 2, activation-based), with its map
    :math:`F^p_{sum}`. The paper states the distance; the authors' released code squares it and takes the mean over the
    locations: this divided by their number. The sum means the same for every resolution. The spatial constraint of Fu
    et al., "Facial Anatomical Landmark Detection using Regularized Transfer Learning with Application to Fetal Alcohol
    Syndrome Recognition", 2021, is this idea (only its abstract was read).

    Args:
        student: features of the student, shape ``(B, C, *spatial)``.
        teacher: features of the teacher on the same images; the number of channels may differ.
        power: p, at least 1; the larger it is, the more the strongest activations count. Between 1 and 2 a feature
            that is 0 has no second derivative.
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar in ``[0, 2]`` (times B for ``'sum'``), float32 even under autocast, float64 for float64 input. An
        image whose features are all 0 has no attention: its distance to another is 1, without gradient.

    Raises:
        ValueError: if images or locations do not agree or there are none, or for an unknown option.

    Example:
        >>> left, right = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 5.0], [0.0, 2.0]]])
        >>> attention_transfer_loss(left, right)
        tensor(2.)
    """
    check_power(power)
    check_reduction(reduction)
    check_same_locations(student, teacher)
    student, teacher = (attention(features, power, summed=1) for features in at_least_float32(student, teacher))
    return reduce_images((student - teacher).square().sum(dim=1), reduction)


class AttentionTransferLoss(nn.Module):
    """Module form of :func:`attention_transfer_loss` (Zagoruyko & Komodakis 2017).

    In an MMPose config: ``loss=dict(type='AttentionTransferLoss', power=2.0)``.
    """

    def __init__(self, power: float = 2.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_power(power)
        check_reduction(reduction)
        self.power = power
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`attention_transfer_loss`."""
        return attention_transfer_loss(student, teacher, self.power, self.reduction)

    def extra_repr(self) -> str:
        return f"power={self.power}, reduction={self.reduction!r}"
