"""L2 between temperature-softened classifier outputs (Fu et al. 2020, Eq. 3)."""

from __future__ import annotations

from torch import Tensor, nn

from xtask_reg.losses.precision import at_least_float32
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images
from xtask_reg.losses.shapes import check_same_shape, check_several_classes, mean_over_locations
from xtask_reg.losses.temperature import check_temperature


def softmax_l2_loss(
    student: Tensor, teacher: Tensor, temperature: float = 2.0, reduction: Reduction = "mean"
) -> Tensor:
    r"""Squared distance between the softened class probabilities of student and teacher.

    .. math:: L_{CD} = \frac{1}{N L} \sum_{i,l} \lVert \sigma(z^s_{i,l} / \mu) - \sigma(z^t_{i,l} / \mu) \rVert_2^2,
        \quad \sigma = \mathrm{softmax\ over\ classes}

    Source: Fu et al., "Cross-Task Representation Learning for Anatomical Landmark Detection", 2020 (Eq. 3). The squares
    are summed over the classes; with ``reduction='mean'`` over the images this is the equation literally, which has one
    location (L = 1). For a source that classifies every pixel, the mean over the locations is this library's addition.

    Args:
        student: logits of the student's copy of the source classifier, shape ``(B, C)`` or ``(B, C, *spatial)``.
        teacher: logits of the source network on the same images, same shape.
        temperature: :math:`\mu`, positive; the paper uses 2.
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar in ``[0, 2]`` (times B for ``'sum'``), float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the shapes are not equal, there are no images or only one class, the temperature is not positive,
            or the reduction is unknown.

    Example:
        >>> softmax_l2_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1000.0]]))
        tensor(0.5000)
    """
    check_temperature(temperature)
    check_reduction(reduction)
    check_same_shape(student, teacher, "(images, classes, *spatial)")
    check_several_classes(student)
    student, teacher = at_least_float32(student, teacher)
    difference = (student / temperature).softmax(dim=1) - (teacher / temperature).softmax(dim=1)
    return reduce_images(mean_over_locations(difference.square().sum(dim=1)), reduction)


class SoftmaxL2Loss(nn.Module):
    """Module form of :func:`softmax_l2_loss`, L_CD of Fu et al. 2020 (Eq. 3).

    In an MMPose config: ``loss=dict(type='SoftmaxL2Loss', temperature=2.0)``.
    """

    def __init__(self, temperature: float = 2.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_temperature(temperature)
        check_reduction(reduction)
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`softmax_l2_loss`."""
        return softmax_l2_loss(student, teacher, self.temperature, self.reduction)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, reduction={self.reduction!r}"
