"""MMDetection's CenterNet, which needs no compiled operator, with the mixin."""

from __future__ import annotations

import xtask_reg.integrations.mmpose_compat  # noqa: F401  isort: skip

from mmdet.models import CenterNet
from mmdet.registry import MODELS

from xtask_reg.integrations.mmengine import CrossTaskModel


@MODELS.register_module()
class CrossTaskCenterNet(CrossTaskModel, CenterNet):
    """CenterNet with regularizing terms."""
