"""Starts an MMEngine run, and stops it before its first step."""

from __future__ import annotations

import argparse
import copy
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner

import xtask_reg.integrations.mmpose  # noqa: F401  (registers the components)
from xtask_reg.integrations.mmengine.freeze_until import FreezeUntilHook
from xtask_reg.integrations.mmpose.errors import one_line_errors
from xtask_reg.integrations.mmpose.tools import read_config


@dataclass(frozen=True)
class Start:
    """The given config, and MMEngine's runner with the first batch, before the first step."""

    config: Config
    runner: Runner
    batch: Any


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """MMEngine's ``--cfg-options``, each ``key=value``, by key.

    Raises:
        ValueError: for an option without ``=``, or with unbalanced brackets.
    """
    faulty = [option for option in options if "=" not in option]
    if faulty:
        raise ValueError(f"--cfg-options {' '.join(faulty)}: expected key=value")
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="*", action=DictAction)
    with one_line_errors():
        return parser.parse_args(["--cfg-options", *options]).cfg_options


@contextmanager
def started(path: Path, options: Mapping[str, Any]) -> Iterator[Start]:
    """Start training with MMEngine's own runner, and stop before the first step. It prints and leaves nothing.

    Args:
        path: the config file.
        options: values to change, by dotted key.

    Raises:
        ValueError: for a config that cannot be built or trained, with the message of what refused it on one line.
    """
    with (
        tempfile.TemporaryDirectory(prefix="xtask-reg-doctor-") as folder,
        redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        runner = None
        try:
            with one_line_errors():
                config = read_config(path)
                config.merge_from_dict(dict(options))
                runner = Runner.from_cfg(_without_traces(config, Path(folder)))
                batch = _first_batch(runner)
            yield Start(config, runner, batch)
        finally:
            if runner is not None:
                _close_log(runner)


def _without_traces(config: Config, folder: Path) -> Config:
    """The same run in this process alone, writing only to ``folder``, with everything thawed that will be."""
    quiet = copy.deepcopy(config)
    quiet.work_dir, quiet.experiment_name = str(folder), folder.name
    quiet.launcher, quiet.resume, quiet.compile, quiet.log_level = "none", False, False, "ERROR"
    quiet.visualizer = dict(type="Visualizer", name=folder.name)
    for kind in ("train", "val", "test"):
        loader = quiet.get(f"{kind}_dataloader")
        if loader:
            loader.num_workers, loader.persistent_workers = 0, False
            loader.pop("prefetch_factor", None)
    for hook in thawing(quiet):
        hook["until"] = 0
    for cache in _caches(quiet.model.get("teacher") or {}):
        cache["folder"] = str(folder)
    return quiet


def thawing(config: Config) -> list[Any]:
    """The configs of the hooks that freeze modules for a part of the training."""
    hooks = [hook for hook in config.get("custom_hooks") or () if isinstance(hook, Mapping)]
    return [hook for hook in hooks if hook["type"] in ("FreezeUntilHook", FreezeUntilHook) and hook["until"] < 1]


def _caches(teacher: Mapping[str, Any]) -> list[Any]:
    """The cache configs of a teacher, or of several by name."""
    teachers = (teacher, *teacher.values())
    return [each["cache"] for each in teachers if isinstance(each, Mapping) and each.get("cache")]


class _FirstBatch(Exception):
    def __init__(self, batch: Any) -> None:
        super().__init__()
        self.batch = batch


class _Stop(Hook):
    """Ends the run with :class:`_FirstBatch`."""

    priority = "LOWEST"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> NoReturn:
        raise _FirstBatch(data_batch)

    def after_train_epoch(self, runner: Runner) -> NoReturn:
        raise ValueError("the training set does not fill one batch: see train_dataloader.batch_size and drop_last")


def _first_batch(runner: Runner) -> Any:
    runner.register_hook(_Stop())
    try:
        runner.train()
    except _FirstBatch as first:
        return first.batch
    raise ValueError("the run ends before its first step: see train_cfg")


def _close_log(runner: Runner) -> None:
    for handler in list(runner.logger.handlers):
        runner.logger.removeHandler(handler)
        handler.close()
