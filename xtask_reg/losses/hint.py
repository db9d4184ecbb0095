"""Hints (FitNets, Romero et al. 2015, Eq. 3)."""

from __future__ import annotations

from torch import Tensor, nn

from xtask_reg.losses.precision import at_least_float32
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images
from xtask_reg.losses.shapes import check_same_shape


def hint_loss(student: Tensor, teacher: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Half the mean squared difference between the features of student and teacher.

    .. math:: L_{HT} = \frac{1}{B} \sum_i \frac{1}{2\,C L} \lVert u_h(I_i) - r(v_g(I_i)) \rVert_2^2

    with C channels, L locations, the teacher's hint layer :math:`u_h`, the student's guided layer :math:`v_g`, and the
    regressor r, which is the student connector of the term.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", 2015 (Eq. 3). Its sum over channels and locations is
    C L times this; the mean lets a weight mean the same for maps of any size.

    Args:
        student: features of the student, behind the regressor, shape ``(B, C, *spatial)`` or ``(B, C)``.
        teacher: features of the teacher on the same images, same shape.
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar of at least 0, float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the shapes are not equal, there are no images, or the reduction is unknown.

    Example:
        >>> hint_loss(torch.zeros(2, 8, 4, 4), torch.full((2, 8, 4, 4), 3.0))
        tensor(4.5000)
    """
    check_reduction(reduction)
    check_same_shape(student, teacher)
    student, teacher = at_least_float32(student, teacher)
    return reduce_images((student - teacher).square().flatten(1).mean(dim=1), reduction) / 2


class HintLoss(nn.Module):
    """Module form of :func:`hint_loss`, the hint-based training of FitNets (Romero et al. 2015, Eq. 3).

    In an MMPose config: ``loss=dict(type='HintLoss')``.
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`hint_loss`."""
        return hint_loss(student, teacher, self.reduction)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"
