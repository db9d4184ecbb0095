"""What the MMEngine runner must do for the regularizer."""

from __future__ import annotations

import math
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmpose.registry import HOOKS
from torch import nn

KEY = "xtask_reg"


@HOOKS.register_module()
class CrossTaskHook(Hook):
    """What the regularizer needs of a run: its state in checkpoints, the training's progress, its report in the log.

    Trainable connectors and balanced weights stand in the checkpoint under ``'xtask_reg'``; ``'state_dict'`` is the
    plain student's. Before training the hook checks that data and head agree, and logs what will train. What the
    regularizer measures (:attr:`xtask_reg.CrossTaskRegularizer.report`) is logged under the same names, without the
    "loss_" of the terms, which MMEngine would take for a part of the loss.
    """

    def before_train(self, runner: Any) -> None:
        """Log the number of trainable parameters.

        Raises:
            ValueError: if a data set's landmarks do not fit the head, or training and validation differ.
        """
        runner.logger.info(_trainable(_model(runner)))
        loaders = {"training": runner.train_dataloader}
        if runner.val_loop is not None:
            loaders["validation"] = runner.val_dataloader
        _check_landmarks(runner, loaders)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Tell the regularizer the progress of training."""
        regularizer = _regularizer(runner)
        if regularizer is not None:
            regularizer.progress = runner.iter / runner.max_iters

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Hand what was measured to the logger."""
        regularizer = _regularizer(runner)
        if regularizer is not None and regularizer.was_measured:
            for name, value in regularizer.report.items():
                if math.isfinite(value):
                    runner.message_hub.update_scalar(f"train/{name.replace('loss_', '')}", value)

    def before_test(self, runner: Any) -> None:
        """Raise ``ValueError`` if the data set's number of landmarks is not the head's number of heatmaps."""
        _check_landmarks(runner, {"test": runner.test_dataloader})

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        state = _regularizer_state(runner)
        if state:
            checkpoint[KEY] = {name: tensor.cpu() for name, tensor in state.items()}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Restore the connectors when a run is resumed; ``load_from`` and testing leave them alone."""
        state = _regularizer_state(runner)
        if not (runner._resume and state):
            return
        if KEY not in checkpoint:
            raise ValueError(
                f"the checkpoint has no {KEY!r} entry, but this run has connectors or weights to resume, "
                f"{sorted(state)}: resume from a checkpoint of the same terms, with CrossTaskHook in custom_hooks"
            )
        _regularizer(runner).load_state_dict(checkpoint[KEY])


def _check_landmarks(runner: Any, loaders: dict[str, Any]) -> None:
    heatmaps = getattr(getattr(_model(runner), "head", None), "out_channels", None)
    names: dict[str, list[str]] = {}
    for kind, loader in loaders.items():
        names[kind] = list(loader.dataset.metainfo.get("keypoint_id2name", {}).values())
        if heatmaps is not None and names[kind] and len(names[kind]) != heatmaps:
            raise ValueError(
                f"the {kind} set has {len(names[kind])} landmarks, the head gives {heatmaps} heatmaps: "
                f"set model.head.out_channels={len(names[kind])}"
            )
    if len(set(map(tuple, names.values()))) > 1:
        raise ValueError(f"the data sets have different landmarks: {names}")


def _trainable(model: nn.Module) -> str:
    numbers = {name: _count(part) for name, part in [("", model), *model.named_children()]}
    total, *parts = (f"{name} {trains:,} of {every:,}" for name, (trains, every) in numbers.items() if every)
    return f"trainable parameters:{total} ({', '.join(parts)})"


def _count(module: nn.Module) -> tuple[int, int]:
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def _model(runner: Any) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _regularizer(runner: Any) -> Any:
    return getattr(_model(runner), "regularizer", None)


def _regularizer_state(runner: Any) -> dict[str, Any]:
    regularizer = _regularizer(runner)
    return {} if regularizer is None else regularizer.state_dict()
