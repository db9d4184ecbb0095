"""Channel-wise distillation (CWD, Shu et al. 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from xtask_reg.losses.divergence import softened_divergence
from xtask_reg.losses.precision import at_least_float32
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images
from xtask_reg.losses.shapes import MAPS, by_location, check_same_shape
from xtask_reg.losses.temperature import check_temperature


def channel_wise_loss(
    student: Tensor, teacher: Tensor, temperature: float = 4.0, reduction: Reduction = "mean"
) -> Tensor:
    r"""KL divergence between the softmax over locations of each channel of teacher and student.

    .. math:: L_{CWD} = \frac{1}{B} \sum_i \frac{\tau^2}{C} \sum_c \mathrm{KL}\bigl(\sigma(A^t_{i,c} / \tau)
        \,\Vert\, \sigma(A^s_{i,c} / \tau)\bigr), \quad \sigma = \mathrm{softmax\ over\ locations}

    Source: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", 2021 (Sec. 3.2), literally, as in
    the code that its authors released.

    Args:
        student: features or logit maps of the student, shape ``(B, C, *spatial)``.
        teacher: those of the teacher on the same images, same shape.
        temperature: :math:`\tau`, positive; the larger it is, the more locations count beside the strongest.
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar of at least 0 (to rounding), float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the shapes are not equal, there are no spatial dimensions or no images, the temperature is not
            positive, or the reduction is unknown.

    Example:
        >>> channel_wise_loss(torch.zeros(1, 1, 2, 2), torch.tensor([[[[1000.0, 0.0], [0.0, 0.0]]]]), 1.0)  # log 4
        tensor(1.3863)
    """
    check_temperature(temperature)
    check_reduction(reduction)
    check_same_shape(student, teacher, MAPS)
    student, teacher = (by_location(features) for features in at_least_float32(student, teacher))
    per_channel = softened_divergence(student, teacher, temperature, dim=2)
    return temperature**2 * reduce_images(per_channel.mean(dim=1), reduction)


class ChannelWiseLoss(nn.Module):
    """Module form of :func:`channel_wise_loss`, the CWD of Shu et al. 2021.

    In an MMPose config: ``loss=dict(type='ChannelWiseLoss', temperature=4.0)``.
    """

    def __init__(self, temperature: float = 4.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_temperature(temperature)
        check_reduction(reduction)
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`channel_wise_loss`."""
        return channel_wise_loss(student, teacher, self.temperature, self.reduction)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, reduction={self.reduction!r}"
