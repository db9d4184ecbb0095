"""The MMEngine hook that connects a run with the regularizer."""

from __future__ import annotations

import math
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn

from xtask_reg.integrations.checkpoint import restore_state, save_state
from xtask_reg.integrations.mmengine.bare_model import bare_model
from xtask_reg.integrations.mmengine.finite_augmentation import check_augmentation
from xtask_reg.integrations.mmengine.progress import steps
from xtask_reg.integrations.mmengine.unlabelled import UnlabelledImagesHook
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.teacher import FrozenTeacher


@HOOKS.register_module()
class CrossTaskHook(Hook):
    """Connects the regularizer with a run: keeps its state in checkpoints, tells it the progress, logs its report.

    Trainable connectors and balanced weights are in the checkpoint under ``'xtask_reg'``; ``'state_dict'`` is the plain
    student's. Before training the hook logs what will train, and checks that the augmentation makes as few images as a
    cache of the teacher needs, unless the terms are compared on other images. What the regularizer measures
    (:attr:`xtask_reg.CrossTaskRegularizer.report`) is logged under the same names, without the "loss_" of the terms,
    which MMEngine would take for a part of the loss.
    """

    def before_train(self, runner: Any) -> None:
        """Log the number of trainable parameters.

        Raises:
            ValueError: if the augmentation makes more images than a cache of a teacher is for.
        """
        model = bare_model(runner)
        runner.logger.info(_trainable(model))
        elsewhere = any(isinstance(hook, UnlabelledImagesHook) for hook in runner.hooks)
        for teacher in _teachers(_regularizer(runner)):
            if teacher.cache is not None and not elsewhere:
                check_augmentation(runner.train_dataloader, model, teacher.cache)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the regularizer's progress."""
        regularizer = _regularizer(runner)
        if regularizer is not None:
            done, total = steps(runner, batch_idx)
            regularizer.progress = done / total

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Pass the measurements to the logger."""
        regularizer = _regularizer(runner)
        if regularizer is not None and regularizer.was_measured:
            for name, value in regularizer.report.items():
                if math.isfinite(value):
                    runner.message_hub.update_scalar(f"train/{name.replace('loss_', '')}", value)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        save_state(checkpoint, _regularizer(runner))

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Restore the connectors when a run is resumed; ``load_from`` and testing leave them alone."""
        if runner._resume:
            restore_state(checkpoint, _regularizer(runner), "with CrossTaskHook in custom_hooks")


def _trainable(model: nn.Module) -> str:
    numbers = {name: count_parameters(part) for name, part in [("", model), *model.named_children()]}
    total, *parts = (f"{name} {trains:,} of {every:,}" for name, (trains, every) in numbers.items() if every)
    return f"trainable parameters:{total} ({', '.join(parts)})"


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """The numbers of trainable and of all parameters of a module."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def _regularizer(runner: Any) -> CrossTaskRegularizer | None:
    return getattr(bare_model(runner), "regularizer", None)


def _teachers(regularizer: CrossTaskRegularizer | None) -> list[FrozenTeacher]:
    modules = () if regularizer is None or regularizer.teacher is None else regularizer.teacher.modules()
    return [module for module in modules if isinstance(module, FrozenTeacher)]
