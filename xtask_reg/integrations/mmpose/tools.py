"""Runs MMPose's own tools on a config."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from xtask_reg.integrations.mmpose_files import tool

_STEP = re.compile(r"Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]")


def read_config(path: Path) -> Config:
    """An MMPose config with its bases, so that its components can be built."""
    init_default_scope("mmpose")
    return Config.fromfile(path)


def run_tool(
    name: str,
    arguments: Sequence[str],
    options: Mapping[str, object],
    log: Path,
    progress: Callable[[int], None] = lambda epoch: None,
    threads: int | None = None,
) -> None:
    """Run ``tools/<name>.py`` in a process of its own, as a user would.

    Args:
        name: ``'train'`` or ``'test'``.
        arguments: those before ``--cfg-options`` on its command line.
        options: the ``--cfg-options``.
        log: the file for everything that it prints.
        progress: called with the number of finished epochs whenever the tool reports a training step.
        threads: CPU threads for PyTorch; None for its default.

    Raises:
        RuntimeError: if it fails, with the end of its log.
    """
    command = [sys.executable, str(tool(name)), *arguments, "--cfg-options", *(f"{k}={v}" for k, v in options.items())]
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            step = _STEP.search(line)
            if step:
                epoch, done, steps = map(int, step.groups())
                progress(epoch if done == steps else epoch - 1)
    if process.returncode:
        end = "".join(log.read_text().splitlines(keepends=True)[-15:])
        raise RuntimeError(f"tools/{name}.py failed with exit status {process.returncode}; see {log}\n{end}")


def train_and_test(
    config: Path,
    folder: Path,
    options: Mapping[str, object],
    epochs: int,
    progress: Callable[[int], None] = lambda epoch: None,
    threads: int | None = None,
) -> float:
    """Train a config, or resume an earlier run in ``folder``, and test the last checkpoint.

    Writes ``epoch_<epochs>.pth``, ``predictions.json`` and the logs ``train.txt`` and ``test.txt`` to ``folder``.

    Args:
        config: the config file.
        folder: the work folder.
        options: the ``--cfg-options`` of both tools, but for the number of epochs.
        epochs: how long to train.
        progress: as in :func:`run_tool`.
        threads: as in :func:`run_tool`.

    Returns:
        The seconds that this call trained.

    Raises:
        RuntimeError: if one of the tools fails.
    """
    options = {**options, "train_cfg.max_epochs": epochs}
    start = time.monotonic()
    train = [str(config), "--work-dir", str(folder), "--resume"]
    run_tool("train", train, options, folder / "train.txt", progress, threads)
    seconds = time.monotonic() - start
    test = [str(config), str(folder / f"epoch_{epochs}.pth"), "--work-dir", str(folder)]
    outfile = {"test_evaluator.outfile": folder / "predictions.json"}
    run_tool("test", test, {**options, **outfile}, folder / "test.txt", threads=threads)
    return seconds
