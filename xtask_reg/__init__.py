"""Cross-task distillation regularizers: keep what a pretrained network knows while it learns a new task."""

from xtask_reg.connectors import PooledClassifier, retained_classifier
from xtask_reg.finetune import freeze
from xtask_reg.inputs import InputAdapter, InputConvention
from xtask_reg.losses import CosineAlignmentLoss, SoftmaxL2Loss
from xtask_reg.measuring import Monitor
from xtask_reg.regularized import Regularized
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.taps import TapError
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.term import Term
from xtask_reg.weights import Balanced, CosineDecay, LinearDecay, Schedule, Steps, Warmup

__version__ = "0.1.0"

__all__ = [
    "Balanced",
    "CosineAlignmentLoss",
    "CosineDecay",
    "CrossTaskRegularizer",
    "FrozenTeacher",
    "InputAdapter",
    "InputConvention",
    "LinearDecay",
    "Monitor",
    "PooledClassifier",
    "Regularized",
    "Schedule",
    "SoftmaxL2Loss",
    "Steps",
    "TapError",
    "Term",
    "Warmup",
    "freeze",
    "retained_classifier",
]
