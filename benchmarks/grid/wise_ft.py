"""WiSE-FT in a training: the last test is of an encoder interpolated between the source and the trained one."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from xtask_reg.finetune import interpolate


@HOOKS.register_module()
class WiseFTHook(Hook):
    """Interpolates the encoder after training, before the last validation.

    Args:
        alpha: from 0, the weights before training, to 1, those after it.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self._source: dict[str, Tensor] | None = None

    def before_train(self, runner: Any) -> None:
        """Keep a copy of the encoder's weights."""
        self._source = {name: value.clone() for name, value in runner.model.backbone.state_dict().items()}

    def before_val(self, runner: Any) -> None:
        """Interpolate, once."""
        if self._source is None or runner.epoch < runner.max_epochs:
            return
        encoder = runner.model.backbone
        encoder.load_state_dict(interpolate(self._source, encoder.state_dict(), self.alpha))
        self._source = None
