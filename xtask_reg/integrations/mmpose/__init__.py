"""xtask_reg as MMPose components.

``custom_imports = dict(imports=['xtask_reg.integrations.mmpose'])`` in a config registers everything here and in
:mod:`xtask_reg.integrations.mmengine`.
"""

import xtask_reg.integrations.mmpose_compat  # isort: skip  (first: it makes mmpose importable)

import xtask_reg.integrations.mmengine  # noqa: F401  (registers its components)
from xtask_reg.integrations.mmpose.caffe_resnet import CaffeResNet
from xtask_reg.integrations.mmpose.codec import ExactHeatmap
from xtask_reg.integrations.mmpose.dataset import LandmarkDataset
from xtask_reg.integrations.mmpose.estimator import CrossTaskTopdownPoseEstimator
from xtask_reg.integrations.mmpose.heatmap_loss import HeatmapMSELoss
from xtask_reg.integrations.mmpose.hook import CrossTaskPoseHook
from xtask_reg.integrations.mmpose.metric import LandmarkMetric
from xtask_reg.integrations.mmpose.quantized import QuantizedBBoxTransform

__all__ = [
    "CaffeResNet",
    "CrossTaskPoseHook",
    "CrossTaskTopdownPoseEstimator",
    "ExactHeatmap",
    "HeatmapMSELoss",
    "LandmarkDataset",
    "LandmarkMetric",
    "QuantizedBBoxTransform",
]
