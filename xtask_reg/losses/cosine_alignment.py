"""Cosine between encoder features (Fu et al. 2020, Eq. 4)."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from xtask_reg.losses.directions import cosines
from xtask_reg.losses.precision import at_least_float32
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images
from xtask_reg.losses.shapes import by_location

Over = Literal["flatten", "location", "pooled"]
OVER = get_args(Over)


def cosine_alignment_loss(
    student: Tensor, teacher: Tensor, over: Over = "flatten", reduction: Reduction = "mean"
) -> Tensor:
    r"""One minus the cosine between the features of student and teacher.

    .. math:: L_{ED} = 1 - \sum_i \cos\bigl(f^s(I_i), f^t(I_i)\bigr)

    Source: Fu et al., "Cross-Task Representation Learning for Anatomical Landmark Detection", 2020 (Eq. 4). That is
    literally ``reduction='sum'``, whose minimum is 1 - B. The default, ``'mean'``, is one minus the *mean* cosine: it
    lies in ``[0, 2]`` and means the same for every batch size. A zero vector has the cosine 0 with any other, and gets
    no gradient.

    Tokens ``(B, N, C)`` of a transformer cannot be told from features ``(B, C, L)``: as they are, only ``'flatten'`` is
    right for them. For the others put :class:`xtask_reg.ChannelsFirst` or :class:`xtask_reg.TokensToMap` on both sides.

    Args:
        student: features of the student, shape ``(B, C, *spatial)`` or ``(B, C)``.
        teacher: features of the teacher on the same images, same shape; ``'pooled'`` only needs equal B and C.
        over: which vectors are compared: ``'flatten'`` the whole map of an image as one vector, ``'location'`` the
            channel vector at each location (their cosines are averaged), ``'pooled'`` the spatial mean.
        reduction: ``'mean'`` (one minus the mean over images) or ``'sum'`` (one minus the sum).

    Returns:
        A scalar, float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the shapes do not fit each other, there are no images, or ``over`` or ``reduction`` is unknown.

    Example:
        >>> features = torch.ones(2, 8, 4, 4)
        >>> cosine_alignment_loss(features, -features)
        tensor(2.)
    """
    check_over(over)
    check_reduction(reduction)
    _check_shapes(student, teacher, over)
    student, teacher = (_vectors(features, over) for features in at_least_float32(student, teacher))
    per_image = cosines(student, teacher, dim=1)
    return 1 - reduce_images(per_image.mean(dim=1) if over == "location" else per_image, reduction)


def check_over(over: str) -> None:
    """Raise ``ValueError`` unless ``over`` is one of the known ways to compare feature maps."""
    if over not in OVER:
        raise ValueError(f"over={over!r} is unknown; expected one of {', '.join(map(repr, OVER))}")


def _check_shapes(student: Tensor, teacher: Tensor, over: Over) -> None:
    compared = 2 if over == "pooled" else None
    fit = student.ndim >= 2 and student.shape[:compared] == teacher.shape[:compared]
    if not fit:
        expected = "the same (images, channels)" if over == "pooled" else "the same shape (images, channels, *spatial)"
        raise ValueError(
            f"student features {tuple(student.shape)} and teacher features {tuple(teacher.shape)} must have {expected} "
            f"for over={over!r}; where they cannot, use a connector or over='pooled'"
        )


def _vectors(features: Tensor, over: Over) -> Tensor:
    """The vectors to compare along dimension 1: ``(B, D)`` or, per location, ``(B, C, L)``."""
    if over == "flatten":
        return features.flatten(1)
    features = by_location(features)
    return features if over == "location" else features.mean(dim=2)


class CosineAlignmentLoss(nn.Module):
    """Module form of :func:`cosine_alignment_loss`, L_ED of Fu et al. 2020 (Eq. 4).

    In an MMPose config: ``loss=dict(type='CosineAlignmentLoss', over='flatten')``.
    """

    def __init__(self, over: Over = "flatten", reduction: Reduction = "mean") -> None:
        super().__init__()
        check_over(over)
        check_reduction(reduction)
        self.over: Over = over
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`cosine_alignment_loss`."""
        return cosine_alignment_loss(student, teacher, self.over, self.reduction)

    def extra_repr(self) -> str:
        return f"over={self.over!r}, reduction={self.reduction!r}"
