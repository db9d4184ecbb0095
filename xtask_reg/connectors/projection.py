"""A trainable linear map of the channels."""

from __future__ import annotations

from torch import Tensor, nn


class Projection(nn.Module):
    """A trainable linear map of the channels: a 1x1 convolution, for any number of spatial dimensions or none.

    On the student's side it takes the place of the regressor of FitNets (Romero et al., "FitNets: Hints for Thin Deep
    Nets", ICLR 2015), which brings the student to the teacher's channels; there the loss is
    :class:`xtask_reg.HintLoss`. Theirs is a convolution without padding, as large as it takes to give the maps the
    teacher's size, and has the non-linearity of the teacher's layer; this is linear, and leaves the size to
    :class:`xtask_reg.Resize`. It trains with the student and is dropped after training.

    Args:
        in_channels: C, the channels of the features.
        out_channels: D, the channels of the other side's features.
        bias: whether to add a trainable constant.

    Raises:
        ValueError: in the call, for features of other than C channels.

    Shape: ``(B, C, *spatial)`` or ``(B, C)`` to ``(B, D, *spatial)`` or ``(B, D)``.

    Example:
        >>> Projection(64, 256)(torch.ones(2, 64, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.linear: nn.Linear = nn.Linear(in_channels, out_channels, bias)

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim < 2 or features.shape[1] != self.linear.in_features:
            raise ValueError(
                f"features of shape {tuple(features.shape)} for a projection of {self.linear.in_features} channels; "
                f"expected (images, {self.linear.in_features}, *spatial)"
            )
        return self.linear(features.movedim(1, -1)).movedim(-1, 1)


def inverted_projection(teacher_channels: int, student_channels: int) -> Projection:
    """A teacher connector: a trainable linear map of the *teacher's* features to the student's channels.

    Source: Auty, Miles, Kolbeinsson, Mikolajczyk, "Learning to Project for Cross-Task Knowledge Distillation", BMVC
    2024 (arXiv 2403.14494). The student's own features go into the loss as they are, and the map learns to ignore those
    of the teacher's features that serve only its own task. It replaces the usual projection in front of any feature
    loss, :class:`xtask_reg.HintLoss` being the plain squared distance. The paper shows that such a loss falls into two
    parts, transfer and a regularizer of the student's spectrum. Only its abstract was read, and no code of the authors
    was found: that the map has no bias, and that nothing is normalised before the loss, is this library's choice.

    Both sides train, so a loss that depends on scale can also be lowered by shrinking the student's features. That is
    not so for losses that do not depend on it: :class:`xtask_reg.CosineAlignmentLoss`, :class:`xtask_reg.PearsonLoss`.

    Args:
        teacher_channels: the channels of the teacher's tap.
        student_channels: the channels of the student's tap.

    Example:
        >>> inverted_projection(teacher_channels=2048, student_channels=512)(torch.ones(2, 2048, 7, 7)).shape
        torch.Size([2, 512, 7, 7])
    """
    return Projection(teacher_channels, student_channels, bias=False)
