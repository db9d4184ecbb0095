"""Learning rates by depth in a run of MMEngine's Runner."""

from __future__ import annotations

from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

import xtask_reg.integrations.mmengine.stage_decay  # noqa: F401

STAGES = [["backbone.conv1", "backbone.bn1"], *(f"backbone.layer{i}" for i in range(1, 5))]
POWER = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1}
LR, DECAY, ITERATIONS = 1e-3, 0.7, 4
QUICK = {
    "train_cfg": dict(_delete_=True, by_epoch=True, max_epochs=2),
    "default_hooks.checkpoint": None,
    **dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator")),
}


class Groups(Hook):
    """Records the optimizer's settings for each parameter, in each iteration."""

    def __init__(self) -> None:
        self.seen: list[dict[str, dict[str, Any]]] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        names = {id(parameter): name for name, parameter in runner.model.named_parameters()}
        groups = [(names[id(p)], g) for g in runner.optim_wrapper.optimizer.param_groups for p in g["params"]]
        assert len(groups) == len(dict(groups))
        self.seen.append({name: {key: group[key] for key in ("lr", "weight_decay")} for name, group in groups})


@pytest.fixture
def run(tiny_config):
    def go(paramwise: dict[str, Any], **changes: Any) -> list[dict[str, dict[str, Any]]]:
        config = tiny_config({**QUICK, **changes})
        config.optim_wrapper = dict(
            constructor="StageDecayConstructor",
            paramwise_cfg=paramwise,
            optimizer=dict(type="AdamW", lr=LR, weight_decay=0.1),
        )
        runner, groups = Runner.from_cfg(config), Groups()
        runner.register_hook(groups)
        runner.train()
        return groups.seen

    return go


def power(name: str) -> int:
    part, _, rest = name.partition(".")
    return POWER[rest.partition(".")[0]] if part == "backbone" else 0


def test_rates_through_the_schedule(run):
    """PolyLR scales the rate of each depth; head and connectors have the full one, the teacher none."""
    seen = run(dict(stages=STAGES, decay=DECAY))
    assert len(seen) == ITERATIONS
    for step, groups in enumerate(seen):
        for name, group in groups.items():
            expected = LR * DECAY ** power(name) * (1 - step / (ITERATIONS - 1)) ** 0.9
            assert group["lr"] == pytest.approx(expected, rel=1e-6, abs=1e-15), name
            assert group["weight_decay"] == 0.1
    assert {name.partition(".")[0] for name in seen[0]} == {"backbone", "head", "regularizer"}
    assert not any("teacher" in name for name in seen[0])


def test_the_rest_of_paramwise_cfg_acts(run):
    """Also within the stages, where MMEngine's own ``custom_keys`` would switch the other options off."""
    keys = {"head.final_layer": dict(lr_mult=10), "layer2": dict(lr_mult=0.5, decay_mult=2)}
    paramwise = dict(stages=STAGES, decay=DECAY, norm_decay_mult=0.0, bias_lr_mult=3, custom_keys=keys)
    first = run(paramwise, **{"model.terms": []})[0]
    for name, group in first.items():
        norm = ".bn" in name or ".downsample.1" in name or "deconv_layers.1" in name
        multiple = {"head.final_layer": 10, "backbone.layer2": 0.5}.get(".".join(name.split(".")[:2]), 1)
        decays = 0.2 if "layer2" in name else 0.1
        if "deconv_layers" in name:  # convolutions and norms one after the other
            norm = name.split(".")[2] in ("1", "4", "7")
        expected = 0.0 if norm and "layer2" not in name else decays
        assert group["weight_decay"] == pytest.approx(expected), name
        assert group["lr"] == pytest.approx(LR * multiple * DECAY ** power(name)), name


def test_frozen_parameters_are_left_out(run):
    """As in MMEngine's own constructor if ``paramwise_cfg`` is given."""
    first = run(dict(stages=STAGES, decay=DECAY), **{"model.terms": [], "model.frozen": ["backbone.layer1"]})[0]
    assert {name.split(".")[1] for name in first if name.startswith("backbone")} == POWER.keys() - {"layer1"}


@pytest.mark.parametrize(
    ("paramwise", "match"),
    [
        (dict(stages=STAGES), r"lacks \['decay'\]"),
        (dict(decay=0.5), r"lacks \['stages'\]"),
        (None, r"lacks \['decay', 'stages'\]"),
        (dict(stages=["backbone.layer5"], decay=0.5), "no submodule 'backbone.layer5'"),
        (dict(stages=STAGES, decay=1.5), "decay=1.5"),
    ],
)
def test_bad_config(run, paramwise, match):
    with pytest.raises(ValueError, match=match):
        run(paramwise, **{"model.terms": []})
