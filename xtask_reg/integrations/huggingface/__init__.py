"""Networks of Hugging Face transformers as students and sources."""

from xtask_reg.integrations.huggingface.inputs import input_convention

__all__ = ["input_convention"]
