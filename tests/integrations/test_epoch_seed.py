"""A killed and resumed run equals an uninterrupted one, including augmentations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from xtask_reg.sources import load_weights

CONNECTOR = "terms.loss_cd.student_connector.fc.weight"
EPOCHS, STEPS = 3, 2
TWO_WORKERS = {"num_workers": 2, "persistent_workers": True, "batch_size": 2}
SINGLE = {"num_workers": 1, "batch_size": None}
PLUGINS = ["xtask_reg.integrations.mmpose", "probe", "die"]


@pytest.fixture(scope="session")
def train(tool_command, process, config_path, options):
    """``train(folder, name, workers, persistent)``: run tools/train.py, and again after it was killed, if it was."""

    def run(folder: Path, name: str, workers: int, persistent: bool, **environment: str) -> None:
        config = folder / "run.py"
        config.write_text(f"_base_ = [{config_path('ctd-com')!r}]\ncustom_imports = dict(imports={PLUGINS})\n")
        extra = {
            "train_cfg.max_epochs": EPOCHS,
            "train_dataloader.num_workers": workers,
            "train_dataloader.persistent_workers": persistent,
            "default_hooks.probe.type": "Probe",
            "default_hooks.probe.out": folder / f"{name}.pt",
            "default_hooks.die.type": "Die",
        }
        arguments = [str(config), "--work-dir", str(folder / name), "--resume"]
        command = tool_command("train", arguments, {**options, **extra})
        if environment:
            assert process(command, folder, **environment).returncode == -9
            assert not (folder / f"{name}.pt").exists()
        result = process(command, folder)
        assert result.returncode == 0, result.stderr[-3000:]

    return run


@pytest.fixture(scope="session")
def runs(shared, train):
    """``runs(workers)``: the probe's records of an uninterrupted run and of one killed in mid-epoch and resumed; and
    the checkpoint from which the latter was resumed. Workers persist."""

    def get(workers: int) -> list[dict[str, Any]]:
        def make(folder: Path) -> None:
            train(folder, "whole", workers, workers > 0)
            train(folder, "killed", workers, workers > 0, DIE_AT=str(STEPS + 1))

        folder = shared(f"epoch-seed-{workers}", make)
        return [
            torch.load(folder / name, weights_only=True) for name in ("whole.pt", "killed.pt", "killed/epoch_1.pth")
        ]

    return get


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_is_the_uninterrupted_one(runs, workers):
    """A killed run that is resumed draws other augmentations: MMEngine saves no random state."""
    whole, resumed, _ = runs(workers)
    assert resumed["epoch"] == 1
    assert len(resumed["inputs"]) == (EPOCHS - 1) * STEPS
    assert resumed["inputs"] == whole["inputs"][STEPS:]
    assert resumed["random"] == whole["random"][STEPS:]
    losses = [[step["loss"] for step in seen["logged"]] for seen in (whole, resumed)]
    assert losses[1] == pytest.approx(losses[0][STEPS:], rel=0, abs=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_has_its_connectors_and_the_source_as_teacher(runs, source, workers):
    """A killed run that is resumed begins with new connectors, or with the trained student as its teacher."""
    whole, resumed, checkpoint = runs(workers)
    torch.testing.assert_close(resumed["connectors"], dict(checkpoint["xtask_reg"]), rtol=0, atol=0)
    torch.testing.assert_close(resumed["start"], dict(checkpoint["state_dict"]), rtol=0, atol=0)
    assert not torch.equal(*(seen["connectors"][CONNECTOR] for seen in (whole, resumed)))
    weights = load_weights(source)
    expected = {f"classifier.{k}" if k.startswith("fc.") else f"backbone.{k}": v for k, v in weights.items()}
    torch.testing.assert_close(resumed["teacher"], expected, rtol=0, atol=0)
    assert not torch.equal(resumed["start"]["backbone.conv1.weight"], weights["conv1.weight"])
    assert resumed["before"] == resumed["after"] == whole["before"]
    torch.testing.assert_close(resumed["last_connectors"], whole["last_connectors"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_has_augmentations_of_its_own(runs, workers):
    whole, *_ = runs(workers)
    assert len(set(whole["inputs"])) == EPOCHS * STEPS


def test_new_workers_in_each_epoch_draw_what_persistent_ones_do(runs, train, tmp_path):
    whole, *_ = runs(2)
    train(tmp_path, "new", 2, persistent=False)
    assert torch.load(tmp_path / "new.pt", weights_only=True)["inputs"] == whole["inputs"]


def test_workers_draw_different_numbers(tiny_config, watch):
    """Two workers that read one image again and again: no two batches are the same."""
    config = tiny_config({f"train_dataloader.{key}": value for key, value in TWO_WORKERS.items()})
    once = {**config.train_dataloader.dataset, "indices": 1}
    config.train_dataloader.dataset = dict(type="RepeatDataset", times=8, dataset=once)
    _, seen = watch.run(config)
    assert len({batch.tobytes() for batch in seen.batches}) == len(seen.batches) == 2 * 8 // 2


def test_workers_that_read_single_samples_are_refused(tiny_runner):
    changes = {f"train_dataloader.{key}": value for key, value in SINGLE.items()}
    with pytest.raises(ValueError, match="set train_dataloader.batch_size, which is None, or num_workers=0"):
        tiny_runner(changes).train()


def test_loops_without_epochs_are_refused(tiny_runner):
    changes = {"train_cfg": dict(_delete_=True, by_epoch=False, max_iters=2, val_interval=2), "param_scheduler": None}
    with pytest.raises(ValueError, match=r"needs train_cfg.by_epoch=True; the loop is IterBasedTrainLoop"):
        tiny_runner(changes).train()
