"""Checkpoints of a LightningModule with a regularizer are plain, and suffice to resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning_case import (
    BATCH,
    BATCHES,
    TERMS,
    AtOnce,
    Detector,
    Make,
    Plain,
    by_hand,
    cd,
    data,
    ed,
    fit,
    source,
    trainer,
)
from same_tensors import assert_same
from torch.utils.data import DataLoader

import xtask_reg as xr

pytestmark = pytest.mark.filterwarnings("ignore")


class Interrupted(Exception):
    pass


class Interrupt(Callback):
    """Interrupts the training in the middle of the second epoch."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 3:
            raise Interrupted


def interrupted(make: Make, folder: Path) -> Path:
    """The checkpoint of the first epoch."""
    saved = ModelCheckpoint(folder, "{epoch}", save_top_k=-1)
    with pytest.raises(Interrupted):
        fit(Detector(make), folder, enable_checkpointing=True, callbacks=[saved, Interrupt()])
    return folder / "epoch=0.ckpt"


@pytest.mark.parametrize("name", TERMS)
def test_resumed_training_ends_where_the_uninterrupted_one_does(name, tmp_path):
    module, whole = Detector(TERMS[name]), Detector(TERMS[name])
    fit(whole, tmp_path)
    fit(module, tmp_path, path=interrupted(TERMS[name], tmp_path))
    assert len(module.values) == BATCHES
    assert_same(module.state_dict(), whole.state_dict())
    assert_same(module.regularizer.state_dict(), whole.regularizer.state_dict())
    assert module.weights == whole.weights[BATCHES:]


@pytest.mark.parametrize("weights_only", [False, True])
def test_checkpoint_is_plain_beside_the_entry(weights_only, tmp_path):
    saved = ModelCheckpoint(tmp_path, "last", save_weights_only=weights_only)
    module = Detector(lambda: [cd(xr.Balanced(0.5)), ed()])
    fit(module, tmp_path, epochs=1, enable_checkpointing=True, callbacks=[saved])
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert_same(checkpoint["state_dict"], module.state_dict())
    assert list(checkpoint["state_dict"]) == list(Plain().state_dict())
    fitting = {f"terms.cd.student_connector.fc.{kind}" for kind in ("weight", "bias")}
    assert checkpoint["xtask_reg"].keys() == {*fitting, "terms.cd.weighting._extra_state"}


def test_no_entry_where_nothing_is_to_be_resumed(tmp_path):
    run = fit(Detector(TERMS["ed"]), tmp_path, epochs=1)
    run.save_checkpoint(tmp_path / "last.ckpt")
    assert "xtask_reg" not in torch.load(tmp_path / "last.ckpt", weights_only=True)


def test_checkpoint_is_tested_and_loaded_without_teacher_and_connectors(tmp_path):
    module = Detector(TERMS["cd"])
    run = fit(module, tmp_path, epochs=1)
    run.save_checkpoint(tmp_path / "last.ckpt")
    for kind in (Detector, Plain):
        assert_same(kind.load_from_checkpoint(tmp_path / "last.ckpt").state_dict(), module.state_dict())
        tested = kind()
        trainer(tmp_path).test(tested, DataLoader(data(), BATCH), ckpt_path=tmp_path / "last.ckpt", verbose=False)
        assert_same(tested.state_dict(), module.state_dict())


def test_regularizer_made_in_the_constructor(tmp_path):
    """Resuming restores the connectors, loading the checkpoint to test or to start from it does not."""
    module = AtOnce()
    run = fit(module, tmp_path)
    assert_same(module.student.state_dict(), by_hand([cd()])[0].state_dict())
    run.save_checkpoint(tmp_path / "last.ckpt")
    loaded = AtOnce.load_from_checkpoint(tmp_path / "last.ckpt")
    assert_same(loaded.state_dict(), module.state_dict())
    assert_same(loaded.regularizer.state_dict(), AtOnce().regularizer.state_dict())
    resumed = AtOnce()
    trainer(tmp_path).test(resumed, DataLoader(data(), BATCH), ckpt_path=tmp_path / "last.ckpt", verbose=False)
    assert_same(resumed.regularizer.state_dict(), AtOnce().regularizer.state_dict())
    fit(resumed, tmp_path, path=tmp_path / "last.ckpt")
    assert_same(resumed.regularizer.state_dict(), module.regularizer.state_dict())


def test_resuming_without_the_entry_is_refused(tmp_path):
    run = fit(Plain(), tmp_path, epochs=1)
    run.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(ValueError, match=r"no 'xtask_reg' entry.*terms\.cd\.student_connector.*super\(\)"):
        fit(Detector(TERMS["cd"]), tmp_path, path=tmp_path / "plain.ckpt")
    fit(Detector(TERMS["ed"]), tmp_path, path=tmp_path / "plain.ckpt")


def test_averaged_weights_are_saved_plain(tmp_path):
    """Lightning's callback copies the module with its connectors before ``setup``; the teacher is shared."""
    module = AtOnce()
    callbacks = [EMAWeightAveraging(decay=0.9), ModelCheckpoint(tmp_path, "last")]
    fit(module, tmp_path, enable_checkpointing=True, callbacks=callbacks)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    net, keep = by_hand([cd()])
    assert_same(checkpoint["current_model_state"], {f"student.{key}": value for key, value in net.state_dict().items()})
    assert_same(checkpoint["xtask_reg"], keep.state_dict())
    assert checkpoint["state_dict"].keys() == Plain().state_dict().keys()
    assert not torch.equal(checkpoint["state_dict"]["student.fc.weight"], net.fc.weight)
    assert_same(module.regularizer.teacher.network.state_dict(), source().state_dict())
