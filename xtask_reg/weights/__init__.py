"""What a term weighs: a number, a function of the progress of training, or what keeps its gradient in balance."""

from xtask_reg.weights.balanced import Balanced
from xtask_reg.weights.schedule import CosineDecay, LinearDecay, Schedule, Steps, Warmup

__all__ = ["Balanced", "CosineDecay", "LinearDecay", "Schedule", "Steps", "Warmup"]
