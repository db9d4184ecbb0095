"""Gives a resumed run the augmentations of an uninterrupted one."""

from __future__ import annotations

import functools
import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds Python, NumPy and PyTorch at the start of each training epoch, in the process and in the data workers.

    MMEngine saves no random state: without this a resumed run begins its augmentations anew, and with workers that do
    not persist every epoch has the same ones. The seed is drawn from the run's own (``randomness.seed``), the epoch
    and the process's rank; a resumed run needs as many workers and images a batch as before.

    Raises:
        ValueError: before training, if the loop is not one over epochs, or the data loader's workers are persistent:
            these cannot be seeded again.
    """

    def before_train(self, runner: Any) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                f"EpochSeedHook needs train_cfg.by_epoch=True; the loop is {type(runner.train_loop).__name__}"
            )
        loader = runner.train_dataloader
        if loader.num_workers > 0 and loader.persistent_workers:
            raise ValueError("EpochSeedHook needs train_dataloader.persistent_workers=False")

    def before_train_epoch(self, runner: Any) -> None:
        sequence = np.random.SeedSequence([runner.seed, runner.epoch, runner.rank])
        own, workers = (int(number) for number in sequence.generate_state(2))
        _seed(own)
        runner.train_dataloader.worker_init_fn = functools.partial(_seed_worker, workers)


def _seed_worker(seed: int, worker: int) -> None:
    _seed(int(np.random.SeedSequence([seed, worker]).generate_state(1)[0]))
    torch.set_num_threads(1)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
