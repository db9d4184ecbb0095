"""Frozen for a part of the training, in runs of MMEngine's Runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from two_processes import found_by_each

from xtask_reg.integrations.mmengine import freeze_until
from xtask_reg.integrations.mmengine.freeze_until import FreezeUntilHook

EPOCHS, STEPS = 4, 2
HEAD = {"head", "head.final_layer"}
EVERY = {"backbone.conv1", "backbone.bn1", *(f"backbone.layer{i}" for i in range(1, 5)), *HEAD}
PLAIN = {
    "train_cfg": dict(_delete_=True, by_epoch=True, max_epochs=EPOCHS),
    "param_scheduler": None,
    "model.terms": [],
    "default_hooks.checkpoint": None,
    **dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator")),
}


class Changes(Hook):
    """The parts that changed in each iteration; each must have changed completely, including batch statistics."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.by_iteration: dict[int, set[str]] = {}

    def _state(self, runner: Runner) -> dict[str, Tensor]:
        return {key: value.clone() for key, value in runner.model.state_dict().items()}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.before = self._state(runner)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        part = {key: _part(key) for key in self.before}
        same = {key: torch.equal(value, self.before[key]) for key, value in self._state(runner).items()}
        found = {part[key] for key, equal in same.items() if not equal}
        assert not [key for key, equal in same.items() if equal and part[key] in found]
        self.by_iteration[runner.iter] = found


def _part(key: str) -> str:
    return "head" if key.startswith("head.deconv_layers") else ".".join(key.split(".")[:2])


@pytest.fixture
def run(tiny_config):
    """``run(hooks, changes)``: what changed in each iteration of a run with these hooks."""

    def go(hooks: list[dict[str, Any]], changes: dict[str, Any] | None = None) -> dict[int, set[str]]:
        config: Config = tiny_config({**PLAIN, **(changes or {})})
        config.custom_hooks += [dict(type="FreezeUntilHook", **hook) for hook in hooks]
        runner, seen = Runner.from_cfg(config), Changes()
        runner.register_hook(seen)
        runner.train()
        return seen.by_iteration

    return go


@pytest.mark.parametrize(("until", "first"), [(0.5, 4), (0.375, 3), (0, 0), (1, 8)])
def test_encoder_trains_from_the_fraction_on(run, until, first):
    found = run([dict(paths=["backbone"], until=until)])
    assert found == {step: HEAD if step < first else EVERY for step in range(EPOCHS * STEPS)}


def test_schedule(run):
    """The encoder's last stage thaws first; a part that two hooks freeze thaws with the later one."""
    found = run(
        [
            dict(paths=["backbone"], until=0.5, but=["backbone.layer4"]),
            dict(paths=["backbone.layer4"], until=0.25),
            dict(paths=["backbone.layer1", "backbone.conv1", "backbone.bn1"], until=0.75),
        ]
    )
    first = {"head": 0, "final_layer": 0, "layer4": 2, "layer3": 4, "layer2": 4, "layer1": 6, "conv1": 6, "bn1": 6}
    for step, parts in found.items():
        assert {part.split(".")[-1] for part in parts} == {part for part, begin in first.items() if step >= begin}


def test_what_the_estimator_froze_stays_frozen(run):
    frozen = {"model.frozen": ["backbone.conv1", "backbone.bn1", "backbone.layer1"]}
    found = run([dict(paths=["backbone"], until=0.5)], frozen)
    trains = EVERY - {"backbone.conv1", "backbone.bn1", "backbone.layer1"}
    assert found == {step: HEAD if step < 4 else trains for step in range(EPOCHS * STEPS)}


def test_norm_eval_stays(tiny_config):
    """Batch norms that the backbone itself keeps in eval mode do not leave it in the middle of an epoch."""
    config = tiny_config({**PLAIN, "model.backbone.norm_eval": True})
    config.custom_hooks.append(dict(type="FreezeUntilHook", paths=["backbone"], until=0.375))
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.model.backbone.bn1.num_batches_tracked == 0
    assert runner.model.backbone.bn1.weight.requires_grad


def test_resumed_run_is_in_the_phase_of_its_iteration(run, tmp_path):
    hooks = [dict(paths=["backbone"], until=0.5)]
    run(hooks, {"default_hooks.checkpoint": dict(type="CheckpointHook", max_keep_ckpts=-1)})
    for epoch in (1, 3):
        found = run(hooks, {"resume": True, "load_from": str(tmp_path / f"epoch_{epoch}.pth")})
        assert found == {step: HEAD if step < 4 else EVERY for step in range(STEPS * epoch, STEPS * EPOCHS)}


def test_loop_over_iterations_and_its_log(run, tmp_path):
    loop = dict(_delete_=True, by_epoch=False, max_iters=4)
    without_seed = [dict(type="CrossTaskHook")]
    changes = {"train_cfg": loop, "custom_hooks": without_seed, "train_dataloader.sampler.type": "InfiniteSampler"}
    found = run([dict(paths=["backbone", "head"], until=0.5, but=["head.final_layer"])], changes)
    assert found == {step: {"head.final_layer"} if step < 2 else EVERY for step in range(4)}
    (log,) = tmp_path.glob("*/*.log")
    assert log.read_text().count("iteration 2: backbone, head trains from now on") == 1


@pytest.mark.parametrize("until", [-0.1, 1.5, 30, "0.3", None, float("nan")])
def test_bad_fraction(until):
    with pytest.raises(ValueError, match="until=.*a fraction of the training, from 0 to 1"):
        FreezeUntilHook(["backbone"], until)


@pytest.mark.parametrize(
    ("hook", "error", "match"),
    [
        (dict(paths=["backbone.layer5"], until=0.5), ValueError, "no submodule 'backbone.layer5'.*'backbone.layer4'"),
        (dict(paths=["backbone"], until=0, but=["head"]), ValueError, r"\['head'\] .* not within"),
        (dict(paths="backbone", until=0.5), TypeError, r"\['backbone'\]"),
    ],
)
def test_bad_paths(run, hook, error, match):
    with pytest.raises(error, match=match):
        run([hook])


def test_ddp_that_waits_for_every_parameter_is_refused(tiny_config, monkeypatch):
    monkeypatch.setattr(freeze_until, "get_world_size", lambda: 2)
    config = tiny_config(PLAIN)
    config.custom_hooks.append(dict(type="FreezeUntilHook", paths=["backbone"], until=0.5))
    with pytest.raises(ValueError, match="set find_unused_parameters = True"):
        Runner.from_cfg(config).train()


@pytest.mark.slow
def test_two_processes(tiny_config, tmp_path):
    """Under DDP, thawed parts are synchronised, and frozen parts do not change."""
    for name, until in (("half", 0.5), ("all", 1.0)):
        changes = {"train_dataloader.batch_size": 2, "launcher": "pytorch", "find_unused_parameters": True}
        wrapper = dict(type="MMDistributedDataParallel", device_ids=None, find_unused_parameters=True)
        config = tiny_config({**PLAIN, **changes, "model_wrapper_cfg": wrapper})
        config.custom_hooks.append(dict(type="FreezeUntilHook", paths=["backbone"], until=until))
        config.custom_imports.imports.append("xtask_reg.integrations.mmengine.freeze_until")
        config.work_dir = str(tmp_path / name)
        config.dump(tmp_path / f"{name}.py")
    first, second = found_by_each(str(Path(__file__).parent / "plugins" / "two_ranks.py"), tmp_path)
    for name, trains in (("half", EVERY), ("all", HEAD)):
        found = first[name]
        assert {
            _part(key) for key, value in found["end"].items() if not torch.equal(value, found["start"][key])
        } == trains
        torch.testing.assert_close(found["end"], second[name]["end"], rtol=0, atol=0)
        assert not torch.equal(found["batches"][0], second[name]["batches"][0])
