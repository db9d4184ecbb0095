"""Runs of MMEngine's Runner that are resumed with another config."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

BACKWARDS = [*range(13, -1, -1)]
BATCHES = {8: 1, 4: 2, 2: 4}
"""Steps per epoch of eight images, by batch size."""


class Seen(Hook):
    """Records the regularizer's progress, and whether the encoder trains, in each step."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.progress: list[float] = []
        self.trains: list[bool] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.progress.append(runner.model.regularizer.progress)
        self.trains.append(runner.model.backbone.conv1.weight.requires_grad)


@pytest.mark.parametrize(("first", "then"), [(4, 8), (8, 2), (4, 4)])
def test_progress_is_that_of_the_epoch(tiny_runner, tiny_config, first, then):
    """With a larger batch MMEngine's count of iterations goes beyond its own end, with a smaller one it lags behind."""
    tiny_runner({"train_cfg.max_epochs": 2, "train_dataloader.batch_size": first}).train()
    config = tiny_config({"train_cfg.max_epochs": 4, "train_dataloader.batch_size": then, "resume": True})
    config.custom_hooks.append(dict(type="FreezeUntilHook", paths=["backbone"], until=0.75))
    runner, seen = Runner.from_cfg(config), Seen()
    runner.register_hook(seen)
    runner.train()
    an_epoch = BATCHES[then]
    fractions = [Fraction(2 * an_epoch + step, 4 * an_epoch) for step in range(2 * an_epoch)]
    assert seen.progress == [float(fraction) for fraction in fractions]
    assert seen.trains == [fraction >= Fraction(3, 4) for fraction in fractions]


def test_landmarks_are_those_of_the_training_that_is_resumed(tiny_runner):
    """As many landmarks in another order, for which MMEngine only logs that something differs."""
    tiny_runner({"train_cfg.max_epochs": 1}).train()
    backwards = {f"{split}_dataloader.dataset.subset": BACKWARDS for split in ("train", "val", "test")}
    runner = tiny_runner({**backwards, "resume": True})
    match = "the training set has the landmarks in another order: landmark 0 is .* in the training that is resumed"
    with pytest.raises(ValueError, match=match):
        runner.train()
    assert runner.iter == 2


def test_nothing_to_resume(tiny_runner):
    """``--resume`` at the first start."""
    tiny_runner({"resume": True, "train_cfg.max_epochs": 1}).train()
