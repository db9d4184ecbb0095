"""Freezing for a part of the training: LP-FT, gradual unfreezing."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from xtask_reg.finetune.freezing import Frozen, freeze
from xtask_reg.integrations.mmengine.progress import steps


@HOOKS.register_module()
class FreezeUntilHook(Hook):
    """Keeps submodules as they are, up to a fraction of all iterations; then they train.

    ``dict(type='FreezeUntilHook', paths=['backbone'], until=0.3)`` is LP-FT (Kumar et al., ICLR 2022), and several of
    these hooks are gradual unfreezing: what two of them freeze thaws with the later one. What the model's
    ``frozen`` holds stays frozen. A resumed run is in the phase that its progress says.

    Under DDP, which is set up before, it needs ``find_unused_parameters = True`` in the config.

    Args:
        paths: dotted paths of the submodules, as in :func:`xtask_reg.freeze`.
        until: the fraction in [0, 1], to the nearest iteration; 1 is all of the training.
        but: dotted paths of submodules within these that train all the same.

    Raises:
        ValueError: for another fraction; before training for an unknown path, or DDP without
            ``find_unused_parameters``.
        TypeError: before training, if ``paths`` or ``but`` is a string.
    """

    paths: Sequence[str]
    until: float
    but: Sequence[str]

    def __init__(self, paths: Sequence[str], until: float, but: Sequence[str] = ()) -> None:
        if not (isinstance(until, Real) and 0 <= until <= 1):
            raise ValueError(f"FreezeUntilHook: until={until!r}; expected a fraction of the training, from 0 to 1")
        self.paths, self.until, self.but = paths, until, but
        self._frozen: Frozen | None = None

    def before_train(self, runner: Any) -> None:
        if get_world_size() > 1 and not getattr(runner.model, "find_unused_parameters", False):
            raise ValueError(
                "FreezeUntilHook freezes parameters that DistributedDataParallel waits for: set "
                "find_unused_parameters = True in the config"
            )
        self._frozen = freeze(runner.model, self.paths, self.but)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        done, total = steps(runner, batch_idx)
        if self._frozen is None or done < round(self.until * total):
            return
        self._frozen.release()
        self._frozen = None
        runner.model.train()
        runner.logger.info(f"iteration {runner.iter}: {', '.join(self.paths)} trains from now on")
