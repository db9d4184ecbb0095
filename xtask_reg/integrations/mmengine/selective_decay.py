"""Selective projection decay in MMEngine."""

from __future__ import annotations

import warnings
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS, MODELS
from torch import Tensor

from xtask_reg.finetune.selective_decay import SelectiveProjectionDecay
from xtask_reg.integrations.mmengine.bare_model import bare_model
from xtask_reg.integrations.mmengine.scope import own_scope
from xtask_reg.integrations.mmengine.source import RANDOM
from xtask_reg.submodules import find_module


@HOOKS.register_module()
class SelectiveProjectionDecayHook(Hook):
    """Draws the encoder back to its source, see :class:`xtask_reg.finetune.SelectiveProjectionDecay`.

    The source's weights are those of the config's ``model.teacher`` if that is one teacher, or else what the backbone
    starts from (``init_cfg=dict(type='SourceWeights', ...)``). They are read from the file again in a resumed run.

    Args:
        path: dotted path of the submodule, in the model and in its source: ``'backbone'``, or a part of it.
        weight: lambda; 1 returns a tensor to the distance from the source that it had before the step.

    Raises:
        ValueError: before training, if the config has no source, an untrained one, or one with other parameters than
            the student's; or for several optimizers.
    """

    def __init__(self, path: str = "backbone", weight: float = 1.0) -> None:
        self.path, self.weight = path, weight

    def before_train(self, runner: Any) -> None:
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise ValueError("SelectiveProjectionDecayHook needs one optimizer; the config has several")
        with own_scope(bare_model(runner)):
            source = _source_parameters(runner.cfg.get("model", {}), self.path)
        parameters = dict(find_module(runner.model, self.path).named_parameters())
        SelectiveProjectionDecay(runner.optim_wrapper.optimizer, parameters, source, self.weight)


def _source_parameters(model: dict[str, Any], path: str) -> dict[str, Tensor]:
    teacher = model.get("teacher") or {}
    single = teacher if "type" in teacher else {"type": "FrozenTeacher"}
    config = {**single, "student_backbone": model.get("backbone")}
    if config.get("checkpoint") == RANDOM:
        raise ValueError(
            "SelectiveProjectionDecayHook: model.teacher.checkpoint is 'random', so there are no source "
            "weights to decay towards; set it to a file"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its input convention: it sees no image
        teacher = MODELS.build(config)
        teacher.load_source()
    return dict(find_module(teacher.network, path).named_parameters())
