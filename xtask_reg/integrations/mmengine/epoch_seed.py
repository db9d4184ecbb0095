"""Gives a resumed run the augmentations of an uninterrupted one."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop
from torch import Tensor
from torch.utils.data import get_worker_info


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds Python, NumPy and PyTorch at the start of each training epoch, in the process and in the data workers.

    MMEngine saves no random state: without this a resumed run begins its augmentations anew, and with workers that do
    not persist every epoch has the same ones. The seed is drawn from the run's own (``randomness.seed``), the epoch
    and the process's rank; a resumed run needs as many workers and images a batch as before. Whether the workers
    persist makes no difference to what they draw.

    Raises:
        ValueError: before training, if the loop is not one over epochs, or workers read single samples instead of
            batches.
    """

    def __init__(self) -> None:
        self._of_workers = torch.zeros(1, dtype=torch.int64).share_memory_()

    def before_train(self, runner: Any) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                f"EpochSeedHook needs train_cfg.by_epoch=True; the loop is {type(runner.train_loop).__name__}"
            )
        loader = runner.train_dataloader
        if loader.num_workers > 0 and loader.batch_sampler is None:
            raise ValueError(
                "EpochSeedHook seeds workers that read batches: set train_dataloader.batch_size, which is None, or "
                "num_workers=0"
            )
        loader.worker_init_fn = functools.partial(_follow, self._of_workers)
        if loader.persistent_workers:
            # starting workers draws a number, in a resumed run in another epoch: not from the training's random state
            loader.generator = torch.Generator()

    def before_train_epoch(self, runner: Any) -> None:
        sequence = np.random.SeedSequence([runner.seed, runner.epoch, runner.rank])
        own, workers = (int(number) for number in sequence.generate_state(2))
        _seed(own)
        self._of_workers.fill_(workers)


def _follow(epoch_seed: Tensor, worker: int) -> None:
    """Make a worker seed itself before its first batch after each change of the shared ``epoch_seed``."""
    torch.set_num_threads(1)
    info = get_worker_info()
    assert info is not None
    dataset: Any = info.dataset  # the worker's own copy
    read = getattr(dataset, "__getitems__", None) or functools.partial(_one_by_one, dataset)
    seeded_with = None

    def getitems(indices: Sequence[int]) -> Any:
        nonlocal seeded_with
        if (now := int(epoch_seed)) != seeded_with:
            _seed(int(np.random.SeedSequence([now, worker]).generate_state(1)[0]))
            seeded_with = now
        return read(indices)

    dataset.__getitems__ = getitems  # what PyTorch calls for a batch


def _one_by_one(dataset: Any, indices: Sequence[int]) -> list[Any]:
    return [dataset[index] for index in indices]


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
