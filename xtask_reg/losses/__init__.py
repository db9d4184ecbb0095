"""Distillation losses and penalties: one pure function and one thin module per file."""

from xtask_reg.losses.attention_transfer import AttentionTransferLoss, attention_transfer_loss
from xtask_reg.losses.batch_spectral_shrinkage import BSSLoss, bss_loss
from xtask_reg.losses.channel_attention import ChannelAttentionLoss, channel_attention_loss
from xtask_reg.losses.channel_wise import ChannelWiseLoss, channel_wise_loss
from xtask_reg.losses.cosine_alignment import CosineAlignmentLoss, cosine_alignment_loss
from xtask_reg.losses.cosine_smooth_l1 import CosineSmoothL1Loss, cosine_smooth_l1_loss
from xtask_reg.losses.delta import DELTALoss, delta_loss
from xtask_reg.losses.gram_anchoring import GramAnchoringLoss, gram_anchoring_loss
from xtask_reg.losses.hint import HintLoss, hint_loss
from xtask_reg.losses.kd import KDLoss, kd_loss
from xtask_reg.losses.l2_sp import L2SPPenalty, l2_sp_penalty
from xtask_reg.losses.local_similarity import LocalSimilarityLoss, local_similarity_loss
from xtask_reg.losses.lwf import LwFLoss, lwf_loss
from xtask_reg.losses.pearson import PearsonLoss, pearson_loss
from xtask_reg.losses.penalty import Penalty
from xtask_reg.losses.rkd_angle import RKDAngleLoss, rkd_angle_loss
from xtask_reg.losses.rkd_distance import RKDDistanceLoss, rkd_distance_loss
from xtask_reg.losses.softmax_l2 import SoftmaxL2Loss, softmax_l2_loss

__all__ = [
    "AttentionTransferLoss",
    "BSSLoss",
    "ChannelAttentionLoss",
    "ChannelWiseLoss",
    "CosineAlignmentLoss",
    "CosineSmoothL1Loss",
    "DELTALoss",
    "GramAnchoringLoss",
    "HintLoss",
    "KDLoss",
    "L2SPPenalty",
    "LocalSimilarityLoss",
    "LwFLoss",
    "PearsonLoss",
    "Penalty",
    "RKDAngleLoss",
    "RKDDistanceLoss",
    "SoftmaxL2Loss",
    "attention_transfer_loss",
    "bss_loss",
    "channel_attention_loss",
    "channel_wise_loss",
    "cosine_alignment_loss",
    "cosine_smooth_l1_loss",
    "delta_loss",
    "gram_anchoring_loss",
    "hint_loss",
    "kd_loss",
    "l2_sp_penalty",
    "local_similarity_loss",
    "lwf_loss",
    "pearson_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "softmax_l2_loss",
]
