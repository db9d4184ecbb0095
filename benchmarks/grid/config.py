"""The MMPose config of a cell."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mmengine.config import Config

from grid.cell import BATCH, SIZE, Cell
from grid.datasets import DATASETS
from grid.methods import changes_of
from grid.places import Places
from grid.sources import SOURCES, weights_file
from xtask_reg.integrations.mmpose.tools import read_config
from xtask_reg.integrations.mmpose_files import configs

POINTS = 4
"""Number of tests during the training."""


def cell_config(cell: Cell, places: Places, folder: Path) -> Config:
    """The complete config; writes ``train.json``, ``test.json`` and possibly :data:`PHOTOGRAPHS` to ``folder``.

    Raises:
        FileNotFoundError: if the source was not prepared.
    """
    source, landmarks = SOURCES[cell.source], DATASETS[cell.dataset]
    config = read_config(configs() / source.config)
    data: dict[str, Any] = {"data_root": str(places.landmarks(cell.dataset))}
    if landmarks.subset:
        data["subset"] = {"file": "subsets.json", "name": landmarks.subset}
    for split, file in (("train", "train.json"), ("val", "test.json"), ("test", "test.json")):
        loader = config[f"{split}_dataloader"]
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.update({**data, "ann_file": str(folder / file)})
        for step in loader.dataset.pipeline:
            if "input_size" in step:
                step.input_size = (int(cell.setting.get("size", SIZE)),) * 2
    config.train_dataloader.batch_size = min(int(cell.setting.get("batch", BATCH)), cell.n_labels)
    epochs = round(cell.steps / (cell.n_labels // config.train_dataloader.batch_size))
    config.train_dataloader.drop_last = True
    points = POINTS if cell.split == "test" and cell.setting.get("monitored", True) else 1
    config.train_cfg.update(max_epochs=epochs, val_interval=epochs // points)
    config.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": -1, "save_last": False}
    config.randomness.seed = cell.seed
    config.optim_wrapper.optimizer.fused = True
    # without it the random decoder's first gradients can ruin the encoder, which then predicts the mean shape for good
    warmup = {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "end": cell.steps // 10}
    config.param_scheduler = [warmup, *config.param_scheduler]
    if source.weights:
        config.model.backbone.init_cfg.checkpoint = str(weights_file(cell.source, places.prepared))
    if source.small_batches:
        config.model.backbone.norm_eval = True
    config.model.head.out_channels = landmarks.landmarks
    config.model.head.decoder.decode = "quarter_offset"
    _add_teacher(config, cell)
    _merge(config, changes_of(cell.method, cell.source, cell.setting))
    for hook in config.custom_hooks:
        if hook["type"] == "UnlabelledImagesHook":
            hook["folder"] = str(folder / hook["folder"])
    config.optim_wrapper.optimizer.lr *= cell.setting.get("rate", 1)
    return config


def _add_teacher(config: Config, cell: Cell) -> None:
    if cell.teacher == "none":
        return
    source = SOURCES[cell.source]
    config.model.teacher = dict(config.teacher)
    if cell.setting.get("monitored", True):
        config.model.monitor = {"every": cell.steps // 20}
    if cell.teacher == "random":
        config.model.teacher.checkpoint = "random"
    if source.classes:
        config.model.teacher.classifier = {"in_channels": source.channels, "num_classes": source.classes}


def _merge(config: Config, changes: dict) -> None:
    """Merge a method's changes: its terms into the model, its hooks in addition to the config's."""
    changes = dict(changes)
    if "terms" in changes:
        config.model.terms = changes.pop("terms")
    config.custom_hooks = [*config.custom_hooks, *changes.pop("custom_hooks", [])]
    config.merge_from_dict(changes)


def fingerprint(config: Config, places: Places, folder: Path) -> str:
    """A hash of the config that does not depend on where its files are."""
    text = config.pretty_text
    for place in (places.data_root, places.prepared, folder):
        text = text.replace(str(place), "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]
