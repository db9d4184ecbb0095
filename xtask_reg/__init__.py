"""Cross-task distillation regularizers: keep what a pretrained network knows while it learns a new task."""

from xtask_reg.connectors import PooledClassifier, retained_classifier
from xtask_reg.finetune import freeze
from xtask_reg.inputs import InputAdapter, InputConvention
from xtask_reg.losses import CosineAlignmentLoss, SoftmaxL2Loss
from xtask_reg.regularizer import CrossTaskRegularizer, Regularized, Term
from xtask_reg.taps import TapError
from xtask_reg.teacher import FrozenTeacher

__version__ = "0.1.0"

__all__ = [
    "CosineAlignmentLoss",
    "CrossTaskRegularizer",
    "FrozenTeacher",
    "InputAdapter",
    "InputConvention",
    "PooledClassifier",
    "Regularized",
    "SoftmaxL2Loss",
    "TapError",
    "Term",
    "freeze",
    "retained_classifier",
]
