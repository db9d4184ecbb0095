"""Layer-wise decay of the learning rate in MMEngine."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from xtask_reg.finetune.layerwise_lr import layerwise_lr


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class StageDecayConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's default constructor with a learning rate for each depth, see :func:`xtask_reg.finetune.layerwise_lr`.

    .. code:: python

        stages = [['backbone.conv1', 'backbone.bn1'], 'backbone.layer1', 'backbone.layer2']  # from input to output
        optim_wrapper = dict(constructor='StageDecayConstructor', paramwise_cfg=dict(stages=stages, decay=0.7))

    Head and connectors have the optimizer's ``lr``. Everything else of ``paramwise_cfg`` acts as without it; where it
    gives a parameter an ``lr``, the factor of the stage multiplies that.

    Raises:
        ValueError: if ``paramwise_cfg`` lacks ``stages`` or ``decay``, or the optimizer ``lr``.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        missing = {"stages", "decay"} - self.paramwise_cfg.keys()
        if missing:
            raise ValueError(f"StageDecayConstructor: optim_wrapper.paramwise_cfg lacks {sorted(missing)}")
        if self.base_lr is None:
            raise ValueError("StageDecayConstructor: optim_wrapper.optimizer lacks lr")

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **kwargs: Any) -> None:
        """Add the parameters of ``module``; after those of the whole model (no ``prefix``), decay the rates."""
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:
            return
        stages = layerwise_lr(module, self.paramwise_cfg["stages"], 1.0, self.paramwise_cfg["decay"])
        factor = {parameter: stage["lr"] for stage in stages for parameter in stage["params"]}
        for group in params:
            group["lr"] = group.get("lr", self.base_lr) * factor[group["params"][0]]
