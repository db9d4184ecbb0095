"""``model.monitor`` in runs: what it logs, and that it does not change the training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner
from mmpose.registry import MODELS
from torch import Tensor, nn

from xtask_reg.sources import load_weights

STEPS = 4
STAGES = [f"backbone.layer{number}" for number in range(1, 5)]
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
QUIET = {"train_cfg.val_interval": 10, "default_hooks.checkpoint": None}


@pytest.fixture
def logging_config(tiny_config, request) -> Callable[[Mapping[str, Any]], Config]:
    """Like ``tiny_config`` with a new visualizer: MMEngine would reuse one of the same name, with its old folder."""
    return lambda changes: tiny_config({**QUIET, "visualizer.name": f"visualizer_{request.node.name}", **changes})


def log(runner: Runner) -> list[dict[str, Any]]:
    (path,) = Path(runner.work_dir).glob("*/vis_data/scalars.json")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [entry for entry in entries if "loss" in entry]


def stages(network: nn.Module, images: Tensor) -> list[Tensor]:
    output, found = network.maxpool(F.relu(network.bn1(network.conv1(images)))), []
    for number in range(1, 5):
        output = getattr(network, f"layer{number}")(output)
        found.append(output.double())
    return found


def mean_cosine(x: Tensor, y: Tensor) -> float:
    pairs = zip(x.flatten(1).numpy(), y.flatten(1).numpy(), strict=True)
    return float(np.mean([a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in pairs]))


def cka(x: Tensor, y: Tensor) -> float:
    """HSIC of the centred Gram matrices, as printed; rows are the cells of 8 x 8 averages."""
    x, y = (F.adaptive_avg_pool2d(each, min(each.shape[2], 8)).flatten(2).movedim(1, 2) for each in (x, y))
    x, y = (each.reshape(-1, each.shape[2]).numpy() for each in (x, y))
    centre = np.eye(len(x)) - 1 / len(x)
    k, h = (centre @ rows @ rows.T @ centre for rows in (x, y))
    return float(np.trace(k @ h) / np.sqrt(np.trace(k @ k) * np.trace(h @ h)))


def at_the_start(config: Config, source: Path) -> tuple[nn.Module, nn.Module]:
    """Student, in training mode, and source, in eval mode, with the source's weights."""
    networks = [MODELS.build({**config.model.backbone, "init_cfg": None}) for _ in range(2)]
    for network, training in zip(networks, (True, False)):
        weights = {key: value for key, value in load_weights(source).items() if not key.startswith("fc.")}
        network.load_state_dict(weights, strict=True)
        network.train(training)
    return networks[0], networks[1]


def test_log_of_a_run(watch, logging_config, source):
    """Every stage at every step, the first compared by hand; no measurement counts as a loss."""
    config = logging_config({"model.monitor": dict(every=1)})
    runner, seen = watch.run(config)
    entries = log(runner)
    assert [entry["step"] for entry in entries] == list(range(1, STEPS + 1))
    terms = [f"{kind}/{term}" for kind in ("value", "weight", "ratio") for term in ("cd", "ed")]
    measured = {*terms, *(f"{kind}/{stage}" for kind in ("cosine", "cka") for stage in STAGES)}
    for entry, losses in zip(entries, seen.losses, strict=True):
        assert {key for key in entry if "/" in key} == measured
        assert {key for key in entry if "loss" in key} == {"loss", "loss_kpt", "loss_cd", "loss_ed"}
        assert losses["loss"] == pytest.approx(losses["loss_kpt"] + losses["loss_cd"] + losses["loss_ed"], rel=1e-5)
        for term in ("cd", "ed"):
            assert entry[f"weight/{term}"] == 0.002
            assert losses[f"loss_{term}"] == pytest.approx(0.002 * entry[f"value/{term}"], rel=1e-5)
            assert entry[f"ratio/{term}"] > 0
        for stage in STAGES:
            assert -1 < entry[f"cosine/{stage}"] < 0.9999
            assert 0 < entry[f"cka/{stage}"] < 0.9999
    pixels = torch.from_numpy(seen.batches[0]).float().flip(1)
    images = (pixels - MEAN[:, None, None]) / STD[:, None, None]
    with torch.no_grad():
        pairs = list(zip(*(stages(network, images) for network in at_the_start(config, source)), strict=True))
    for stage, (own, other) in zip(STAGES, pairs, strict=True):
        assert entries[0][f"cosine/{stage}"] == pytest.approx(mean_cosine(own, other), rel=1e-4)
        assert entries[0][f"cka/{stage}"] == pytest.approx(cka(own, other), rel=1e-3)


def test_without_batch_statistics_the_start_is_the_source(watch, logging_config):
    runner, _ = watch.run(logging_config({"model.monitor": dict(every=1), "model.backbone.norm_eval": True}))
    first, *_, last = log(runner)
    for stage in STAGES:
        assert first[f"cosine/{stage}"] == pytest.approx(1, abs=1e-5)
        assert first[f"cka/{stage}"] == pytest.approx(1, abs=1e-4)
        assert last[f"cosine/{stage}"] < 1 - 1e-6
    assert first["value/ed"] == pytest.approx(0, abs=1e-6)


def test_teacher_for_the_monitor_alone_is_fine_tuning_to_the_bit(watch, logging_config):
    """Stages by name, without a term: the teacher runs in the measured steps, and changes nothing."""
    named = {"backbone.layer2": "backbone.layer2", "backbone.layer4": "backbone.layer4"}
    calls: list[int] = []

    def count_calls(runner: Runner) -> None:
        assert runner.model.regularizer.teacher.network.has_weights
        runner.model.regularizer.teacher.network.register_forward_hook(lambda *call: calls.append(runner.iter))

    changes = {"model.terms": [], "default_hooks.checkpoint": dict(type="CheckpointHook", interval=2)}
    runner, seen = watch.run(logging_config({**changes, "model.monitor": dict(stages=named, every=2)}), count_calls)
    assert calls == [0, 2]
    entries = log(runner)
    assert {key for key in entries[0] if "/" in key} == {
        f"{kind}/{stage}" for kind in ("cka", "cosine") for stage in named
    }
    config = logging_config({**changes, "model.monitor": None, "model.teacher": None})
    config.experiment_name += "_plain"
    _, plain = watch.run(config)
    assert seen.losses == plain.losses
    assert plain.losses[0].keys() == {"loss", "loss_kpt"}
    own = {key: value for key, value in seen.end.items() if not key.startswith("teacher.")}
    torch.testing.assert_close(own, plain.end, rtol=0, atol=0)
    assert "xtask_reg" not in torch.load(Path(runner.work_dir) / "epoch_2.pth", weights_only=True)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"monitor": dict(every=0)}, ValueError, "every=0; expected a whole number of steps above 0"),
        ({"monitor": dict(evry=1)}, TypeError, "evry"),
        ({"monitor": dict(stages="backbone.layer4")}, TypeError, r"expected a list .*\['backbone.layer4'\]"),
        ({"monitor": dict(stages=["backbone.layer5"])}, ValueError, "no submodule 'backbone.layer5'.*backbone.layer4"),
        ({"monitor": dict(stages={"backbone.layer4": "layer4"})}, ValueError, "no submodule 'layer4'.*backbone.layer4"),
        ({"monitor": dict(stages=["backbone.layer4"]), "terms": [], "teacher": None}, ValueError, "needs a teacher="),
    ],
)
def test_bad_monitor(model_config, changes, error, match):
    with pytest.raises(error, match=match):
        MODELS.build({**model_config, **changes})


def test_monitor_without_stages_and_terms_builds_nothing(model_config):
    changes = {"monitor": dict(every=1), "terms": [], "teacher": dict(type="NoSuchTeacher")}
    assert MODELS.build({**model_config, **changes}).regularizer is None
