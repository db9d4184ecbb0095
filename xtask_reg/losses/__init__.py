"""Distillation losses: one pure function and one thin module a file."""

from xtask_reg.losses.cosine_alignment import CosineAlignmentLoss, cosine_alignment_loss
from xtask_reg.losses.softmax_l2 import SoftmaxL2Loss, softmax_l2_loss

__all__ = ["CosineAlignmentLoss", "SoftmaxL2Loss", "cosine_alignment_loss", "softmax_l2_loss"]
