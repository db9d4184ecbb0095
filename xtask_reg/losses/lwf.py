"""Learning without Forgetting (Li & Hoiem 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from xtask_reg.losses.kd import kd_loss
from xtask_reg.losses.reduction import Reduction, check_reduction
from xtask_reg.losses.temperature import check_temperature


def lwf_loss(student: Tensor, teacher: Tensor, temperature: float = 2.0, reduction: Reduction = "mean") -> Tensor:
    r"""KL divergence between the source classifier's predictions on the new images, before fine-tuning and now.

    .. math:: L_{old} = \frac{1}{B L} \sum_{i,l} \mathrm{KL}\bigl(\sigma(z^t_{i,l} / T) \,\Vert\,
        \sigma(z^s_{i,l} / T)\bigr), \quad \sigma = \mathrm{softmax\ over\ classes}

    with L locations, 1 where an image is classified as a whole.

    The student's logits come from the source head on the encoder (both of them train), the teacher's from the network
    as it was.

    Source: Li, Hoiem, "Learning without Forgetting", 2016 (Sec. 3), which uses T = 2. The paper states the
    cross-entropy: this plus the entropy of the teacher, a constant without gradient that is left out here so that the
    minimum is 0. There is no factor :math:`T^2` as in :func:`~xtask_reg.losses.kd.kd_loss`.

    Args:
        student: logits of the student's copy of the source classifier, shape ``(B, C)`` or ``(B, C, *spatial)``.
        teacher: logits of the source network on the same images, same shape.
        temperature: T, positive.
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar of at least 0 (to rounding), float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the shapes are not equal, there are no images or only one class, the temperature is not positive,
            or the reduction is unknown.

    Example:
        >>> lwf_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1000.0]]))  # log 2
        tensor(0.6931)
    """
    return kd_loss(student, teacher, temperature, reduction) / temperature**2


class LwFLoss(nn.Module):
    """Module form of :func:`lwf_loss`, the loss on the old task of Li & Hoiem 2016.

    In an MMPose config: ``loss=dict(type='LwFLoss', temperature=2.0)``.
    """

    def __init__(self, temperature: float = 2.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_temperature(temperature)
        check_reduction(reduction)
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`lwf_loss`."""
        return lwf_loss(student, teacher, self.temperature, self.reduction)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, reduction={self.reduction!r}"
