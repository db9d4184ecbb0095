"""``lightning_ranks.py <folder> [kill | resume]``: trains in two processes, each of which saves its final state."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning_case import BATCH, Detector, cd, data, ed, trainer
from torch.utils.data import DataLoader

import xtask_reg as xr


class Kill(Callback):
    """One process dies in the middle of the second epoch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 2 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def terms() -> list[xr.Term]:
    """Terms with a connector, with a balanced weight, and with a weight that ends."""
    return [cd(xr.Balanced(0.5, every=2)), ed(xr.LinearDecay(0.5, until=0.6))]


def main(folder: Path, what: str = "") -> None:
    seed_everything(0)
    module = Detector(terms, monitor=3)
    callbacks = [ModelCheckpoint(folder, "{epoch}", save_top_k=-1), *([Kill()] if what == "kill" else [])]
    run = trainer(folder, devices=2, strategy="ddp", enable_checkpointing=True, callbacks=callbacks)
    path = folder / "epoch=0.ckpt" if what == "resume" else None
    run.fit(module, DataLoader(data(batches=12), BATCH), ckpt_path=path)
    found = {
        "student": dict(module.student.named_parameters()),
        "regularizer": module.regularizer.state_dict(),
        "teacher": module.regularizer.teacher.network.state_dict(),
        "weights": module.weights,
        "sums": [value["sum"] for value in module.values],
    }
    torch.save(found, folder / f"{run.global_rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), *sys.argv[2:])
