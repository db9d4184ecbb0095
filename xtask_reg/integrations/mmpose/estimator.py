"""MMPose's top-down pose estimator with regularizing terms."""

from __future__ import annotations

from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS

from xtask_reg.integrations.mmengine.model import CrossTaskModel


@MODELS.register_module()
class CrossTaskTopdownPoseEstimator(CrossTaskModel, TopdownPoseEstimator):
    """MMPose's ``TopdownPoseEstimator`` with regularizing terms in its loss.

    Its arguments are those of ``TopdownPoseEstimator``, and ``teacher``, ``terms``, ``monitor``, ``frozen`` and
    ``frozen_but`` of :class:`xtask_reg.integrations.mmengine.CrossTaskModel`.
    """
