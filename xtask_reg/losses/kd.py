"""Knowledge distillation (Hinton et al. 2015)."""

from __future__ import annotations

from torch import Tensor, nn

from xtask_reg.losses.divergence import softened_divergence
from xtask_reg.losses.precision import at_least_float32
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images
from xtask_reg.losses.shapes import check_same_shape, check_several_classes, mean_over_locations
from xtask_reg.losses.temperature import check_temperature


def kd_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0, reduction: Reduction = "mean") -> Tensor:
    r"""KL divergence between the softened class probabilities of teacher and student, per location if dense.

    .. math:: L_{KD} = \frac{\tau^2}{B L} \sum_{i,l} \mathrm{KL}\bigl(\sigma(z^t_{i,l} / \tau) \,\Vert\,
        \sigma(z^s_{i,l} / \tau)\bigr), \quad \sigma = \mathrm{softmax\ over\ classes}

    with L locations, 1 where an image is classified as a whole.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015 (Sec. 2). Its cross-entropy is
    this plus the entropy of the teacher, a constant without gradient; its factor :math:`\tau^2` keeps the size of the
    gradients when the temperature changes. It tries several temperatures; 4 is the usual one in later comparisons. On
    maps of class scores it is, at temperature 1, the pixel-wise distillation of Liu et al., "Structured Knowledge
    Distillation for Semantic Segmentation", CVPR 2019, whose code is a cross-entropy summed over the images:
    ``reduction='sum'``.

    Args:
        student: logits of the student, shape ``(B, C)`` or ``(B, C, *spatial)``.
        teacher: logits of the teacher on the same images, same shape.
        temperature: :math:`\tau`, positive.
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar of at least 0 (to rounding), float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the shapes are not equal, there are no images or only one class, the temperature is not positive,
            or the reduction is unknown.

    Example:
        >>> kd_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1000.0]]), temperature=1.0)  # log 2
        tensor(0.6931)
    """
    check_temperature(temperature)
    check_reduction(reduction)
    check_same_shape(student, teacher, "(images, classes, *spatial)")
    check_several_classes(student)
    student, teacher = at_least_float32(student, teacher)
    divergence = softened_divergence(student, teacher, temperature, dim=1)
    return temperature**2 * reduce_images(mean_over_locations(divergence), reduction)


class KDLoss(nn.Module):
    """Module form of :func:`kd_loss`, the distillation of Hinton et al. 2015.

    In an MMPose config: ``loss=dict(type='KDLoss', temperature=4.0)``.
    """

    def __init__(self, temperature: float = 4.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_temperature(temperature)
        check_reduction(reduction)
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`kd_loss`."""
        return kd_loss(student, teacher, self.temperature, self.reduction)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, reduction={self.reduction!r}"
