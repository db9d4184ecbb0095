"""Similarities between all locations of an image (Siméoni et al. 2025, DINOv3)."""

from __future__ import annotations

from torch import Tensor, nn

from xtask_reg.losses.directions import unit
from xtask_reg.losses.precision import at_least_float32, outside_autocast
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images
from xtask_reg.losses.shapes import check_same_locations


def gram_anchoring_loss(student: Tensor, teacher: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Mean squared difference between the cosine similarities of all pairs of locations of an image.

    .. math:: L = \frac{1}{P^2} \lVert X_S X_S^\top - X_G X_G^\top \rVert_F^2

    with the features at the P locations of an image as the rows of X, each of length 1.

    Source: Siméoni et al., "DINOv3", 2025 (Gram anchoring). The equation there has the Frobenius norm without
    1 / P^2; like the authors' code, this takes the mean, so that a weight means the same for every resolution. Their
    teacher is an earlier state of the student; here it is any network. Their class sets negative similarities to 0
    unless ``remove_neg=False``, as in their training configuration; here they are kept.

    A location whose features are all 0 has the similarity 0 with all others, and gets no gradient. Memory: P x P
    numbers per image.

    Args:
        student: features of the student, shape ``(B, C, *spatial)`` with at least one spatial dimension; tokens are
            ``(B, C, L)``.
        teacher: features of the teacher on the same images and of the same locations; the channels may differ.
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar, float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the images or locations differ, there are no images, or the reduction is unknown.

    Example:
        >>> student, teacher = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> gram_anchoring_loss(student, teacher)
        tensor(0.5000)
    """
    check_reduction(reduction)
    check_same_locations(student, teacher)
    student, teacher = (_similarities(features) for features in at_least_float32(student, teacher))
    return reduce_images((student - teacher).square().mean((1, 2)), reduction)


def _similarities(features: Tensor) -> Tensor:
    """The cosines between all pairs of locations, shape ``(B, P, P)``."""
    directions = unit(features.flatten(2), dim=1)
    with outside_autocast(directions):
        similarities = directions.transpose(1, 2) @ directions
    # a location's similarity to itself is exactly 1 or 0: with a single location, rounding would be the whole gradient
    similarities.diagonal(dim1=1, dim2=2).copy_(directions.detach().square().sum(1).round())
    return similarities


class GramAnchoringLoss(nn.Module):
    """Module form of :func:`gram_anchoring_loss`, of DINOv3 (Siméoni et al. 2025).

    In an MMPose config: ``loss=dict(type='GramAnchoringLoss')``.
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`gram_anchoring_loss`."""
        return gram_anchoring_loss(student, teacher, self.reduction)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"
