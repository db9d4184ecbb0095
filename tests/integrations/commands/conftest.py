"""A tiny CTD-Com run, really trained, whose source file is gone; and the commands that use it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from xtask_reg import cli


@pytest.fixture(scope="session")
def run_folder(shared, config_path, options, source) -> Path:
    """The work folder of a run of two epochs: its config, ``epoch_2.pth`` and logs, but no source."""

    def make(folder: Path) -> None:
        copy = folder / "gone.safetensors"
        shutil.copy(source, copy)
        config = Config.fromfile(config_path("ctd-com"))
        given = {**options, "model.backbone.init_cfg.checkpoint": copy}
        config.merge_from_dict({key: DictAction._parse_iterable(str(value)) for key, value in given.items()})
        config.work_dir, config.experiment_name = str(folder), "commands"
        runner = Runner.from_cfg(config)
        runner.train()
        copy.unlink()

    return shared("commands", make)


@pytest.fixture(scope="session")
def config_file(run_folder) -> Path:
    return next(run_folder.glob("*.py"))


@pytest.fixture(scope="session")
def checkpoint(run_folder) -> Path:
    return run_folder / "epoch_2.pth"


@pytest.fixture(scope="session")
def photographs(landmarks) -> list[Path]:
    """The eight images that it was trained with."""
    return sorted((landmarks / "images").glob("train_*.png"))


@pytest.fixture
def command() -> Callable[..., int]:
    """``command(name, *arguments)``: the exit status of ``xtask-reg name arguments``."""
    return lambda *arguments: cli.main([str(argument) for argument in arguments])


@pytest.fixture
def tree() -> Callable[[Path], Mapping[str, Any]]:
    """``tree(folder)``: everything in it, hidden files too, with the files' contents."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }
