"""The task loss of Fu et al. 2020, in both readings of its equation."""

from __future__ import annotations

from typing import Any, Literal

from mmpose.models.losses import KeypointMSELoss
from mmpose.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class HeatmapMSELoss(KeypointMSELoss):
    r"""L_R of Fu et al. 2020 (Eq. 1): :math:`\frac{1}{N} \sum_i \|G_i - h(f(I_i))\|_F^2`, or its mean over the cells.

    Landmarks of weight 0 add nothing. What lambda means depends on the reduction: at 256 px with 14 landmarks the sum
    is 57344 times the mean.

    Args:
        reduction: over landmarks and cells, ``'mean'`` (MMPose's ``KeypointMSELoss``) or ``'sum'`` (the equation as it
            is printed); over images it is the mean.
        **kwargs: arguments of ``KeypointMSELoss``.

    Raises:
        ValueError: for another reduction.

    Shape: output and target ``(B, K, H, W)``, weights ``(B, K)``; a scalar.
    """

    def __init__(self, reduction: Literal["mean", "sum"] = "mean", **kwargs: Any) -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction={reduction!r}; expected 'mean' or 'sum'")
        super().__init__(**kwargs)
        self.reduction = reduction

    def forward(self, output: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        mean = super().forward(output, target, *args, **kwargs)
        return mean * output[0].numel() if self.reduction == "sum" else mean
