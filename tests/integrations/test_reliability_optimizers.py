"""MMEngine's ways to optimize: each must train student and connectors, and not the teacher."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner, autocast
from mmpose.registry import DATASETS, MODELS
from torch import Tensor, nn

LR = 1e-3
PARTS = {"backbone", "head", "connectors"}
ONE_EPOCH = {"train_cfg.max_epochs": 1}  # two steps


def norm(gradients: list[Tensor | None]) -> float:
    return math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))


def test_gradient_clipping(watch, tiny_config):
    """Gradient clipping ignores the connectors, or counts them twice."""
    changes = {**ONE_EPOCH, "optim_wrapper.clip_grad": dict(max_norm=1e-3)}
    norms: list[tuple[float, float]] = []

    def look_at_the_gradients(runner: Runner) -> None:
        model = runner.model
        runner.optim_wrapper.optimizer.register_step_pre_hook(
            lambda *_: norms.append(
                (norm([p.grad for p in model.parameters()]), norm([p.grad for p in model.regularizer.parameters()]))
            )
        )

    _, seen = watch.run(tiny_config(changes), look_at_the_gradients)
    assert [every for every, _ in norms] == pytest.approx([1e-3, 1e-3], rel=1e-2)
    assert all(0 < connectors < every for every, connectors in norms)
    assert watch.changed(seen.start, seen.end) == PARTS


def fresh_gradients(config: Config, state: dict[str, Tensor], batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The gradients of one batch, in a model that has seen no other."""
    model = MODELS.build(config.model).train()
    model.init_weights()
    model.load_state_dict({key: state[key] for key in model.state_dict()})
    collated = {key: [sample[key] for sample in batch] for key in ("inputs", "data_samples")}
    losses = model(**model.data_preprocessor(collated, True), mode="loss")
    model.parse_losses(losses)[0].backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_accumulated_gradients(watch, tiny_config):
    """With gradients of several batches per step, each batch has its own terms, and none of an earlier one."""
    config = tiny_config({**ONE_EPOCH, "train_dataloader.batch_size": 2, "optim_wrapper.accumulative_counts": 2})
    config.train_dataloader.sampler.shuffle = False
    pipeline = config.train_dataloader.dataset.pipeline
    pipeline[2].prob = pipeline[3].scale_prob = 0.0
    config.optim_wrapper.optimizer = dict(type="SGD", lr=0.0)
    gradients: list[dict[str, Tensor]] = []

    def remember_the_gradients(runner: Runner) -> None:
        runner.optim_wrapper.optimizer.register_step_pre_hook(
            lambda *_: gradients.append({n: p.grad.clone() for n, p in runner.model.named_parameters()})
        )

    _, seen = watch.run(config, remember_the_gradients)
    data = DATASETS.build(config.train_dataloader.dataset)
    batches = [[data[i], data[i + 1]] for i in range(0, 8, 2)]
    assert len(gradients) == 2
    for accumulated, pair in zip(gradients, (batches[:2], batches[2:])):
        first, second = (fresh_gradients(config, seen.start, batch) for batch in pair)
        for name, gradient in accumulated.items():
            expected = (first[name] + second[name]) / 2
            torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-4 * expected.abs().max().item(), msg=name)


def test_accumulating_run_trains(watch, tiny_config):
    """The same with Adam: all parts train."""
    changes = {**ONE_EPOCH, "train_dataloader.batch_size": 2, "optim_wrapper.accumulative_counts": 2}
    _, seen = watch.run(tiny_config(changes))
    assert watch.changed(seen.start, seen.end) == PARTS


@OPTIM_WRAPPERS.register_module(force=True)
class CpuAutocast(OptimWrapper):
    """MMEngine's autocast on a CPU; its ``AmpOptimWrapper`` requires a GPU."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), autocast(device_type="cpu", dtype=torch.bfloat16):
            yield


on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which MMEngine then takes")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="AmpOptimWrapper needs a GPU")


@pytest.mark.parametrize(
    ("wrapper", "dtype"),
    [
        pytest.param(dict(type="CpuAutocast"), torch.bfloat16, marks=on_cpu),
        pytest.param(dict(type="AmpOptimWrapper", dtype="bfloat16"), torch.bfloat16, marks=on_gpu),
        pytest.param(dict(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic"), torch.float16, marks=on_gpu),
    ],
)
def test_mixed_precision(watch, tiny_config, wrapper, dtype):
    """In mixed precision, the terms are in half precision, or not finite."""
    dtypes: list[tuple[torch.dtype, ...]] = []

    def look_at_the_terms(runner: Runner) -> None:
        for term in runner.model.regularizer.terms.values():
            term.register_forward_hook(lambda _, args, out: dtypes.append((*(a.dtype for a in args), out.dtype)))

    config = tiny_config({**ONE_EPOCH, "model.monitor": None})  # in a measured step terms get float32
    config.optim_wrapper.update(wrapper)
    _, seen = watch.run(config, look_at_the_terms)
    assert len(dtypes) == 2 * 2
    assert all(out == torch.float32 for *_, out in dtypes)
    assert {tap for *taps, _ in dtypes for tap in taps[:1]} == {dtype}  # autocast was on
    assert watch.changed(seen.start, seen.end) == PARTS


def test_two_optimizers(watch, tiny_config):
    """With several optimizers, one has the connectors, and each parameter is in exactly one."""
    import two_optimizers  # noqa: F401

    config = tiny_config({**ONE_EPOCH, "model.type": "SteppedSeparately"})
    config.optim_wrapper = dict(constructor="TwoOptimizers", optimizer=dict(lr=LR))
    runner, seen = watch.run(config)
    groups = [g for wrapper in runner.optim_wrapper.values() for g in wrapper.param_groups]
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, runner.model.parameters()))
    assert watch.changed(seen.start, seen.end) == PARTS


@pytest.mark.parametrize(
    ("lr_mult", "trains"),
    [
        ({"backbone": 0}, PARTS - {"backbone"}),
        ({"student_connector": 0}, PARTS - {"connectors"}),
        ({"head": 0.1}, PARTS),
    ],
)
def test_learning_rates_of_the_parts(watch, tiny_config, lr_mult, trains):
    """paramwise_cfg can give the connectors their own learning rate by name."""
    config = tiny_config(ONE_EPOCH)
    config.optim_wrapper.paramwise_cfg = dict(custom_keys={k: dict(lr_mult=m) for k, m in lr_mult.items()})
    rates: dict[str, float] = {}

    def look_at_the_rates(runner: Runner) -> None:
        rate = {id(p): group["lr"] for group in runner.optim_wrapper.param_groups for p in group["params"]}
        rates.update({name: rate[id(p)] for name, p in runner.model.named_parameters()})

    _, seen = watch.run(config, look_at_the_rates)
    for name, rate in rates.items():
        multiple = next((multiple for key, multiple in lr_mult.items() if key in name), 1)
        assert rate == pytest.approx(LR * multiple), name
    assert any("student_connector" in name for name in rates)
    assert watch.changed(seen.start, seen.end) == trains


def test_learning_rate_finder(watch, tiny_config):
    """A sweep over learning rates, as by torch-lr-finder, trains the student; restoring it must be complete.

    The connectors are not in the estimator's ``state_dict()`` but in its regularizer's.
    """
    config = tiny_config({"train_dataloader.batch_size": 2})
    runner = Runner.from_cfg(config)
    model = runner.model.train()
    model.init_weights()
    wrapper = runner.build_optim_wrapper(config.optim_wrapper)
    batches = list(runner.build_dataloader(config.train_dataloader, seed=0))
    owners = (model, model.regularizer, wrapper)
    begin, states = watch.values(model), [copy.deepcopy(owner.state_dict()) for owner in owners]

    def sweep() -> list[float]:
        losses = []
        for lr, batch in zip(np.geomspace(1e-5, 0.1, len(batches)), batches, strict=True):
            for group in wrapper.param_groups:
                group["lr"] = lr
            losses.append(model.train_step(copy.deepcopy(batch), wrapper)["loss"].item())
        return losses

    first = sweep()
    assert all(map(math.isfinite, first))
    assert watch.changed(begin, watch.values(model)) == PARTS
    for owner, state in zip(owners, states):
        owner.load_state_dict(state)
    torch.testing.assert_close(watch.values(model), begin, rtol=0, atol=0)
    assert sweep() == first
