"""xtask_reg as MMPose components.

``custom_imports = dict(imports=['xtask_reg.integrations.mmpose'])`` in a config registers everything here.
"""

import sys

from xtask_reg.integrations import mmpose_compat as compat  # isort: skip  (first: it makes mmpose importable)

from mmpose.registry import MODELS

from xtask_reg.connectors import retained_classifier
from xtask_reg.integrations.mmpose.backbone import ModuleBackbone
from xtask_reg.integrations.mmpose.caffe_resnet import CaffeResNet
from xtask_reg.integrations.mmpose.codec import ExactHeatmap
from xtask_reg.integrations.mmpose.dataset import LandmarkDataset
from xtask_reg.integrations.mmpose.epoch_seed import EpochSeedHook
from xtask_reg.integrations.mmpose.estimator import CrossTaskTopdownPoseEstimator
from xtask_reg.integrations.mmpose.heatmap_loss import HeatmapMSELoss
from xtask_reg.integrations.mmpose.hook import CrossTaskHook
from xtask_reg.integrations.mmpose.metric import LandmarkMetric
from xtask_reg.integrations.mmpose.source import SourceTeacher, SourceWeights
from xtask_reg.integrations.mmpose.sync_buffers import SyncTrainedBuffersHook
from xtask_reg.losses import CosineAlignmentLoss, SoftmaxL2Loss
from xtask_reg.weights import Balanced, CosineDecay, LinearDecay, Steps, Warmup

for _component in (CosineAlignmentLoss, SoftmaxL2Loss, Balanced, CosineDecay, LinearDecay, Steps, Warmup):
    MODELS.register_module(module=_component)
MODELS.register_module("RetainedClassifier", module=retained_classifier)
sys.modules[f"{__name__}.compat"] = compat  # a second name for it, of those who have the package anyway

__all__ = [
    "CaffeResNet",
    "CrossTaskHook",
    "CrossTaskTopdownPoseEstimator",
    "EpochSeedHook",
    "ExactHeatmap",
    "HeatmapMSELoss",
    "LandmarkDataset",
    "LandmarkMetric",
    "ModuleBackbone",
    "SourceTeacher",
    "SourceWeights",
    "SyncTrainedBuffersHook",
    "compat",
]
