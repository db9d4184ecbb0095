"""How far a training is."""

from __future__ import annotations

from typing import Any

from mmengine.runner import EpochBasedTrainLoop


def steps(runner: Any, batch_idx: int) -> tuple[int, int]:
    """The steps that are over before a batch, and those of the whole training.

    Of a loop over epochs they are counted by the epoch: MMEngine's own count goes on where a resumed run stopped, whose
    epochs may have more steps now or fewer, with another batch size for instance.

    Args:
        runner: MMEngine's.
        batch_idx: as hooks are given it.
    """
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return runner.iter, runner.max_iters
    an_epoch = len(runner.train_dataloader)
    return runner.epoch * an_epoch + batch_idx, runner.max_epochs * an_epoch
