"""What is measured during training: gradients of the terms, and how much of the source is left."""

from xtask_reg.measuring.monitor import Monitor
from xtask_reg.measuring.similarity import linear_cka, mean_cosine

__all__ = ["Monitor", "linear_cka", "mean_cosine"]
