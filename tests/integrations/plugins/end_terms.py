"""A hook that ends terms while a run trains."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmpose.registry import HOOKS


@HOOKS.register_module()
class EndTerms(Hook):
    """``epochs`` names the term whose weight becomes 0 before the epoch of that number."""

    def __init__(self, epochs: dict[str, int]) -> None:
        self.epochs = epochs

    def before_train_epoch(self, runner: Any) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for name, epoch in self.epochs.items():
            if runner.epoch == epoch:
                model.regularizer.set_weight(name, 0)
