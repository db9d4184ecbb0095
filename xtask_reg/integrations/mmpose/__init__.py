"""xtask_reg as MMPose components.

``custom_imports = dict(imports=['xtask_reg.integrations.mmpose'])`` in a config registers everything here.
"""

import sys

from xtask_reg.integrations import mmpose_compat as compat  # isort: skip  (first: it makes mmpose importable)

from mmpose.registry import MODELS

from xtask_reg import losses
from xtask_reg.connectors import ChannelsFirst, Projection, Resize, inverted_projection, retained_classifier
from xtask_reg.integrations.mmpose.backbone import ModuleBackbone
from xtask_reg.integrations.mmpose.caffe_resnet import CaffeResNet
from xtask_reg.integrations.mmpose.codec import ExactHeatmap
from xtask_reg.integrations.mmpose.dataset import LandmarkDataset
from xtask_reg.integrations.mmpose.epoch_seed import EpochSeedHook
from xtask_reg.integrations.mmpose.estimator import CrossTaskTopdownPoseEstimator
from xtask_reg.integrations.mmpose.freeze_until import FreezeUntilHook
from xtask_reg.integrations.mmpose.heatmap_loss import HeatmapMSELoss
from xtask_reg.integrations.mmpose.hook import CrossTaskHook
from xtask_reg.integrations.mmpose.metric import LandmarkMetric
from xtask_reg.integrations.mmpose.selective_decay import SelectiveProjectionDecayHook
from xtask_reg.integrations.mmpose.source import SourceTeacher, SourceWeights
from xtask_reg.integrations.mmpose.stage_decay import StageDecayConstructor
from xtask_reg.integrations.mmpose.sync_buffers import SyncTrainedBuffersHook
from xtask_reg.weights import Balanced, CosineDecay, LinearDecay, Steps, Warmup

_LOSSES = [getattr(losses, name) for name in losses.__all__ if name.endswith(("Loss", "SPPenalty"))]
_OTHER_NAMES = {losses.KDLoss: "LogitsKDLoss"}  # MMPose has a KDLoss, which takes other arguments
for _component in (*_LOSSES, ChannelsFirst, Projection, Resize, Balanced, CosineDecay, LinearDecay, Steps, Warmup):
    MODELS.register_module(_OTHER_NAMES.get(_component), module=_component)
MODELS.register_module("RetainedClassifier", module=retained_classifier)
MODELS.register_module("InvertedProjection", module=inverted_projection)
sys.modules[f"{__name__}.compat"] = compat  # a second name for it, of those who have the package anyway

__all__ = [
    "CaffeResNet",
    "CrossTaskHook",
    "CrossTaskTopdownPoseEstimator",
    "EpochSeedHook",
    "ExactHeatmap",
    "FreezeUntilHook",
    "HeatmapMSELoss",
    "LandmarkDataset",
    "LandmarkMetric",
    "ModuleBackbone",
    "SelectiveProjectionDecayHook",
    "SourceTeacher",
    "SourceWeights",
    "StageDecayConstructor",
    "SyncTrainedBuffersHook",
    "compat",
]
