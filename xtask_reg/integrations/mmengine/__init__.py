"""xtask_reg as MMEngine components.

``custom_imports = dict(imports=['xtask_reg.integrations.mmengine'])`` in a config registers everything here in
MMEngine's own registries, which those of all packages on top of it (MMPose, MMDetection, ...) fall back to.
"""

import xtask_reg.integrations.mmengine_compat  # noqa: F401  isort: skip

from mmengine.registry import MODELS

from xtask_reg import losses
from xtask_reg.connectors import (
    ChannelsFirst,
    ChannelsLast,
    ClassToken,
    Projection,
    Resize,
    TokensToMap,
    inverted_projection,
    retained_classifier,
)
from xtask_reg.integrations.mmengine.backbone import ModuleBackbone
from xtask_reg.integrations.mmengine.collate import stacked_collate
from xtask_reg.integrations.mmengine.epoch_seed import EpochSeedHook
from xtask_reg.integrations.mmengine.freeze_until import FreezeUntilHook
from xtask_reg.integrations.mmengine.hook import CrossTaskHook
from xtask_reg.integrations.mmengine.model import CrossTaskModel
from xtask_reg.integrations.mmengine.selective_decay import SelectiveProjectionDecayHook
from xtask_reg.integrations.mmengine.source import SourceTeacher
from xtask_reg.integrations.mmengine.source_weights import SourceWeights
from xtask_reg.integrations.mmengine.stage_decay import StageDecayConstructor
from xtask_reg.integrations.mmengine.sync_buffers import SyncTrainedBuffersHook
from xtask_reg.integrations.mmengine.unlabelled import UnlabelledImagesHook
from xtask_reg.weights import Balanced, CosineDecay, LinearDecay, Steps, Warmup

_LOSSES = [getattr(losses, name) for name in losses.__all__ if name.endswith(("Loss", "SPPenalty"))]
_OTHER_NAMES = {losses.KDLoss: "LogitsKDLoss"}  # MMPose has a KDLoss with other arguments
_CONNECTORS = (ChannelsFirst, ChannelsLast, ClassToken, Projection, Resize, TokensToMap)
for _component in (*_LOSSES, *_CONNECTORS, Balanced, CosineDecay, LinearDecay, Steps, Warmup):
    MODELS.register_module(_OTHER_NAMES.get(_component), module=_component)
MODELS.register_module("RetainedClassifier", module=retained_classifier)
MODELS.register_module("InvertedProjection", module=inverted_projection)

__all__ = [
    "CrossTaskHook",
    "CrossTaskModel",
    "EpochSeedHook",
    "FreezeUntilHook",
    "ModuleBackbone",
    "SelectiveProjectionDecayHook",
    "SourceTeacher",
    "SourceWeights",
    "StageDecayConstructor",
    "SyncTrainedBuffersHook",
    "UnlabelledImagesHook",
    "stacked_collate",
]
