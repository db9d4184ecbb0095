"""Measurements during training: gradients of the terms, and similarity to the source."""

from xtask_reg.measuring.monitor import Monitor
from xtask_reg.measuring.similarity import linear_cka, mean_cosine

__all__ = ["Monitor", "linear_cka", "mean_cosine"]
