"""Weights of terms that change in training: schedules, and weights that keep a term's gradient in balance."""

from xtask_reg.weights.balanced import Balanced
from xtask_reg.weights.schedule import CosineDecay, LinearDecay, Schedule, Steps, Warmup

__all__ = ["Balanced", "CosineDecay", "LinearDecay", "Schedule", "Steps", "Warmup"]
