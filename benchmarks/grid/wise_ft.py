"""WiSE-FT in a training: the last test is of the encoder between its source and what the training made of it."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from xtask_reg.finetune import interpolate


@HOOKS.register_module()
class WiseFTHook(Hook):
    """Interpolates the encoder when the training is over, before the last validation.

    Args:
        alpha: from 0, the weights that the training began with, to 1, those at its end.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self._source: dict[str, Tensor] | None = None

    def before_train(self, runner: Any) -> None:
        """Keep the encoder as it is."""
        self._source = {name: value.clone() for name, value in runner.model.backbone.state_dict().items()}

    def before_val(self, runner: Any) -> None:
        """Interpolate, once."""
        if self._source is None or runner.epoch < runner.max_epochs:
            return
        encoder = runner.model.backbone
        encoder.load_state_dict(interpolate(self._source, encoder.state_dict(), self.alpha))
        self._source = None
