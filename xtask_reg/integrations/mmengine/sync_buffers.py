"""Synchronises batch statistics between processes."""

from __future__ import annotations

from typing import Any

from mmengine.dist import all_reduce_params, is_distributed
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SyncTrainedBuffersHook(Hook):
    """Averages the buffers of the modules that train over the processes, at the end of each training epoch.

    MMEngine's ``SyncBuffersHook`` averages all buffers, which moves those of frozen batch norms by rounding.
    """

    def after_train_epoch(self, runner: Any) -> None:
        if is_distributed():
            trained = [module for module in runner.model.modules() if module.training]
            all_reduce_params([b for module in trained for b in module.buffers(recurse=False)], op="mean")
