"""Records what happens in a run of MMEngine's Runner, for tests in its process."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from xtask_reg.integrations.mmengine.bare_model import bare_model

OnStart = Callable[[Runner], object]


def values(model: nn.Module) -> dict[str, Tensor]:
    """Copies on the CPU of everything that could change, by name; the first part of a name is the owner."""
    state = dict(model.state_dict())
    regularizer = getattr(model, "regularizer", None)
    if regularizer is not None:
        state |= regularizer.state_dict(prefix="connectors.")
        state |= regularizer.teacher.network.state_dict(prefix="teacher.")
    return {key: value.to("cpu", copy=True) for key, value in state.items()}


def part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The ``backbone``, ``head``, ``connectors`` or ``teacher`` of :func:`values`, without that prefix."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts that trained: in each of them every weight with two or more dimensions must have changed."""
    weights = {key: not torch.equal(after[key], value) for key, value in before.items() if value.ndim > 1}
    found = {key.partition(".")[0] for key, changed in weights.items() if changed}
    assert all(changed for key, changed in weights.items() if key.partition(".")[0] in found), weights
    return found


class Watch(Hook):
    """The model at the start and the end of the training, its batches and losses, and the weights of its terms."""

    priority = "LOWEST"

    def __init__(self, on_start: OnStart) -> None:
        self.on_start = on_start
        self.batches: list[np.ndarray] = []
        self.others: list[Tensor] = []
        self.losses: list[dict[str, float]] = []
        self.weights: list[dict[str, float]] = []

    def before_train(self, runner: Runner) -> None:
        self.on_start(runner)
        self.start = values(bare_model(runner))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.batches.append(torch.stack(list(data_batch["inputs"])).numpy().copy())
        others = getattr(bare_model(runner), "compared_on", None)
        self.others += [] if others is None else [others.clone()]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.losses.append({key: value.item() for key, value in outputs.items()})
        assert all(map(math.isfinite, self.losses[-1].values())), self.losses[-1]
        regularizer = getattr(bare_model(runner), "regularizer", None)
        terms = {} if regularizer is None else regularizer.terms
        self.weights.append({name: term.weight for name, term in terms.items()})

    def after_train(self, runner: Runner) -> None:
        self.end = values(bare_model(runner))


def run(config: Config, on_start: OnStart = lambda runner: None) -> tuple[Runner, Watch]:
    """Train ``config``; ``on_start`` is called when the weights have been read."""
    runner, watch = Runner.from_cfg(config), Watch(on_start)
    runner.register_hook(watch)
    runner.train()
    return runner, watch
