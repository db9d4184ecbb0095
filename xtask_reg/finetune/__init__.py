"""Fine-tuning procedures: what trains when, how fast, and how far from the source it may go."""

from xtask_reg.finetune.freezing import Frozen, freeze
from xtask_reg.finetune.interpolation import interpolate
from xtask_reg.finetune.layerwise_lr import layerwise_lr
from xtask_reg.finetune.selective_decay import SelectiveProjectionDecay

__all__ = ["Frozen", "SelectiveProjectionDecay", "freeze", "interpolate", "layerwise_lr"]
