"""segmentation_models_pytorch: a source network's weights in its encoders, and what these expect of their images."""

from xtask_reg.integrations.smp.encoder import load_encoder
from xtask_reg.integrations.smp.inputs import input_convention

__all__ = ["input_convention", "load_encoder"]
