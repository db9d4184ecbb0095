"""The public names."""

from __future__ import annotations

from xtask_reg.attach import ctd
from xtask_reg.caching import TeacherCache
from xtask_reg.connectors import (
    ChannelsFirst,
    ChannelsLast,
    ClassToken,
    PooledClassifier,
    Projection,
    Resize,
    TokensToMap,
    inverted_projection,
    retained_classifier,
)
from xtask_reg.finetune import SelectiveProjectionDecay, freeze, interpolate, layerwise_lr
from xtask_reg.inputs import PIXELS, InputAdapter, InputConvention
from xtask_reg.losses import (
    AttentionTransferLoss,
    BSSLoss,
    ChannelAttentionLoss,
    ChannelWiseLoss,
    CosineAlignmentLoss,
    CosineSmoothL1Loss,
    DELTALoss,
    GramAnchoringLoss,
    HintLoss,
    KDLoss,
    L2SPPenalty,
    LocalSimilarityLoss,
    LwFLoss,
    PearsonLoss,
    Penalty,
    RKDAngleLoss,
    RKDDistanceLoss,
    SoftmaxL2Loss,
)
from xtask_reg.losses.delta_weights import delta_channel_weights
from xtask_reg.measuring import Monitor
from xtask_reg.regularized import Regularized
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.shorthands import shorthand
from xtask_reg.stages import find_stages
from xtask_reg.tappable import list_taps
from xtask_reg.taps import TapError
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.teachers import FrozenTeachers
from xtask_reg.term import Term
from xtask_reg.weights import Balanced, CosineDecay, LinearDecay, Schedule, Steps, Warmup

__all__ = [
    "PIXELS",
    "AttentionTransferLoss",
    "BSSLoss",
    "Balanced",
    "ChannelAttentionLoss",
    "ChannelWiseLoss",
    "ChannelsFirst",
    "ChannelsLast",
    "ClassToken",
    "CosineAlignmentLoss",
    "CosineDecay",
    "CosineSmoothL1Loss",
    "CrossTaskRegularizer",
    "DELTALoss",
    "FrozenTeacher",
    "FrozenTeachers",
    "GramAnchoringLoss",
    "HintLoss",
    "InputAdapter",
    "InputConvention",
    "KDLoss",
    "L2SPPenalty",
    "LinearDecay",
    "LocalSimilarityLoss",
    "LwFLoss",
    "Monitor",
    "PearsonLoss",
    "Penalty",
    "PooledClassifier",
    "Projection",
    "RKDAngleLoss",
    "RKDDistanceLoss",
    "Regularized",
    "Resize",
    "Schedule",
    "SelectiveProjectionDecay",
    "SoftmaxL2Loss",
    "Steps",
    "TapError",
    "TeacherCache",
    "Term",
    "TokensToMap",
    "Warmup",
    "ctd",
    "delta_channel_weights",
    "find_stages",
    "freeze",
    "interpolate",
    "inverted_projection",
    "layerwise_lr",
    "list_taps",
    "retained_classifier",
    "shorthand",
]
