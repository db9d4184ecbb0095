"""The progress of a training."""

from __future__ import annotations

from typing import Any

from mmengine.runner import EpochBasedTrainLoop


def steps(runner: Any, batch_idx: int) -> tuple[int, int]:
    """The number of steps before a batch, and of the whole training.

    With a loop over epochs they follow from the epoch: MMEngine's own counter continues that of the interrupted run,
    whose epochs may have had another number of steps, for instance with another batch size.

    Args:
        runner: MMEngine's runner.
        batch_idx: the index that hooks are given.
    """
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return runner.iter, runner.max_iters
    an_epoch = len(runner.train_dataloader)
    return runner.epoch * an_epoch + batch_idx, runner.max_epochs * an_epoch
