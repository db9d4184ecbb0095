"""Selective projection decay in runs of MMEngine's Runner, each step against the formula in NumPy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from mmpose.registry import MODELS

from xtask_reg.integrations.mmengine.selective_decay import SelectiveProjectionDecayHook
from xtask_reg.sources import load_weights, save_weights

QUICK = {
    "train_cfg": dict(_delete_=True, by_epoch=True, max_epochs=4),
    "param_scheduler": None,
    "model.terms": [],
    "default_hooks.checkpoint": None,
    **dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator")),
}
Values = dict[str, np.ndarray]


class Steps(Hook):
    """Records for each step the parameters and gradients before it, the optimizer's result, and the final one."""

    priority = "VERY_HIGH"

    def __init__(self) -> None:
        self.steps: list[list[Values]] = []

    def before_train(self, runner: Runner) -> None:
        parameters = dict(runner.model.named_parameters())

        def values(gradients: bool = False) -> Values:
            tensors = {name: p.grad if gradients else p for name, p in parameters.items()}
            return {name: t.detach().double().numpy().copy() for name, t in tensors.items() if t is not None}

        self.values = values
        optimizer = runner.optim_wrapper.optimizer
        optimizer.register_step_pre_hook(lambda *_: self.steps.append([values(), values(gradients=True)]))
        optimizer.register_step_post_hook(lambda *_: self.steps[-1].append(values()))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.steps[-1].append(self.values())


@pytest.fixture
def run(tiny_config):
    def go(hooks: list[dict[str, Any]], **changes: Any) -> list[list[Values]]:
        config = tiny_config({**QUICK, **changes})
        config.optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.3, momentum=0.9))
        config.custom_hooks += hooks
        runner, steps = Runner.from_cfg(config), Steps()
        runner.register_hook(steps)
        runner.train()
        return steps.steps

    return go


def drawn_back(steps: list[list[Values]], source: Values, weight: float, path: str) -> int:
    """The number of tensors drawn back in all steps; checks every tensor of every step by the formula."""
    drawn = 0
    for before, gradient, made, after in steps:
        for name, value in made.items():
            ratio = 0.0
            if name.startswith(path) and name in gradient:
                theta = source[name.removeprefix("backbone.")]
                new, old = np.linalg.norm(value - theta), np.linalg.norm(before[name] - theta)
                if -np.sum(gradient[name] * (before[name] - theta)) < 0:
                    ratio = min(max((new - old) / new, 0.0), 1.0)
                value = value - weight * ratio * (value - theta)
            np.testing.assert_allclose(after[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
            drawn += ratio > 1e-3
    return drawn


@pytest.fixture
def expected(source) -> Values:
    return {name: value.double().numpy() for name, value in load_weights(source).items()}


@pytest.mark.parametrize(
    ("hook", "changes"),
    [
        ({}, {}),
        ({"weight": 0.5, "path": "backbone.layer2"}, {}),
        ({}, {"model.teacher": None}),
        ({}, {"model.teacher": dict(_delete_=True, type="FrozenTeacher")}),
    ],
    ids=["with classifier", "part", "no teacher", "bare teacher"],
)
def test_steps_are_those_of_the_formula(run, expected, hook, changes):
    steps = run([dict(type="SelectiveProjectionDecayHook", **hook)], **changes)
    assert len(steps) == 8
    weight, path = hook.get("weight", 1.0), hook.get("path", "backbone") + "."
    assert drawn_back(steps, expected, weight, path)
    assert not any(
        np.array_equal(steps[0][0][name], steps[0][3][name]) for name in steps[0][0] if name.endswith("conv1.weight")
    )


def test_resumed_run_is_drawn_to_the_source_again(run, expected, tmp_path):
    hook = [dict(type="SelectiveProjectionDecayHook")]
    whole = run(hook, **{"default_hooks.checkpoint": dict(type="CheckpointHook", max_keep_ckpts=-1)})
    resumed = run(hook, resume=True, load_from=str(tmp_path / "epoch_2.pth"))
    assert len(resumed) == 4
    assert drawn_back(resumed, expected, 1.0, "backbone.")
    for name, value in whole[-1][3].items():
        np.testing.assert_allclose(resumed[-1][3][name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_weight_0_is_plain_training(run, monkeypatch):
    """Building the source again does not change the random state either."""
    before_train = SelectiveProjectionDecayHook.before_train

    def watched(self: SelectiveProjectionDecayHook, runner: Runner) -> None:
        state = torch.get_rng_state()
        before_train(self, runner)
        assert torch.equal(torch.get_rng_state(), state)

    monkeypatch.setattr(SelectiveProjectionDecayHook, "before_train", watched)
    plain, drawn = run([]), run([dict(type="SelectiveProjectionDecayHook", weight=0)])
    for first, second in zip(plain, drawn, strict=True):
        for key in first[3]:
            np.testing.assert_array_equal(first[3][key], second[3][key])


def test_frozen_part_is_left_alone(run, expected):
    steps = run([dict(type="SelectiveProjectionDecayHook")], **{"model.frozen": ["backbone.layer1"]})
    assert drawn_back(steps, expected, 1.0, "backbone.")
    for name in steps[0][0]:
        if name.startswith("backbone.layer1"):
            np.testing.assert_array_equal(steps[0][0][name], steps[-1][3][name])


@pytest.mark.parametrize(
    ("hook", "changes", "match"),
    [
        ({}, {"model.teacher.checkpoint": "random"}, "'random', so there are no source weights"),
        (
            {},
            {"model.teacher.backbone": dict(type="ResNet", depth=18, base_channels=4), "other": True},
            "in the source",
        ),
        ({}, {"model.backbone.init_cfg": None}, "no checkpoint"),
        ({"path": "backbone.layer5"}, {}, "no submodule 'backbone.layer5'"),
        ({"path": "head"}, {}, "no submodule 'head'"),
        ({"weight": -1}, {}, "weight=-1"),
    ],
)
def test_bad_config(run, tmp_path, hook, changes, match):
    if changes.pop("other", False):
        network = MODELS.build(changes["model.teacher.backbone"])
        save_weights(network.state_dict(), tmp_path / "other.safetensors")
        changes["model.teacher.checkpoint"] = str(tmp_path / "other.safetensors")
        changes["model.teacher.classifier"] = None
    with pytest.raises(ValueError, match=match):
        run([dict(type="SelectiveProjectionDecayHook", **hook)], **changes)


def test_several_optimizers_are_refused():
    runner = SimpleNamespace(optim_wrapper=OptimWrapperDict())
    with pytest.raises(ValueError, match="needs one optimizer; the config has several"):
        SelectiveProjectionDecayHook().before_train(runner)
