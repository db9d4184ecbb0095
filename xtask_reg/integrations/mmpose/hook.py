"""What the MMEngine runner must do for the regularizer."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmpose.registry import HOOKS

KEY = "xtask_reg"


@HOOKS.register_module()
class CrossTaskHook(Hook):
    """Saves and resumes the connectors, and checks that data and head agree before training starts.

    The connectors stand in the checkpoint under ``'xtask_reg'``; ``'state_dict'`` is the plain student's.
    """

    def before_train(self, runner: Any) -> None:
        """Raise ``ValueError`` if a data set's number of landmarks is not the head's number of heatmaps."""
        head = getattr(_model(runner), "head", None)
        heatmaps = getattr(head, "out_channels", None)
        loaders = {"training": runner.train_dataloader}
        if runner.val_loop is not None:
            loaders["validation"] = runner.val_dataloader
        for name, loader in loaders.items():
            landmarks = loader.dataset.metainfo.get("num_keypoints")
            if None not in (heatmaps, landmarks) and heatmaps != landmarks:
                raise ValueError(
                    f"the {name} set has {landmarks} landmarks, the head gives {heatmaps} heatmaps: "
                    f"set model.head.out_channels={landmarks}"
                )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        state = _connector_state(runner)
        if state:
            checkpoint[KEY] = {name: tensor.cpu() for name, tensor in state.items()}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Restore the connectors when a run is resumed; ``load_from`` and testing leave them alone."""
        state = _connector_state(runner)
        if not (runner._resume and state):
            return
        if KEY not in checkpoint:
            raise ValueError(
                f"the checkpoint has no {KEY!r} entry, but this run trains connectors {sorted(state)}: resume from a "
                "checkpoint of the same terms, with CrossTaskHook in custom_hooks"
            )
        _model(runner).regularizer.load_state_dict(checkpoint[KEY])


def _model(runner: Any) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _connector_state(runner: Any) -> dict[str, Any]:
    regularizer = getattr(_model(runner), "regularizer", None)
    return {} if regularizer is None else regularizer.state_dict()
