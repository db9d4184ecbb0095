"""Running MMPose's own tools as a user would, with progress."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from xtask_reg.integrations.mmpose.paths import tool

_STEP = re.compile(r"Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]")


def run_tool(
    name: str, arguments: Sequence[str], options: Mapping[str, object], log: Path, progress: Callable[[int], None]
) -> None:
    """Run ``tools/<name>.py`` in a process of its own.

    Args:
        name: ``'train'`` or ``'test'``.
        arguments: what stands before ``--cfg-options`` on its command line.
        options: the ``--cfg-options``.
        log: where everything that it prints is written.
        progress: called with the number of finished epochs whenever the tool reports a training step.

    Raises:
        RuntimeError: if it fails, with the end of its log.
    """
    command = [sys.executable, str(tool(name)), *arguments, "--cfg-options", *(f"{k}={v}" for k, v in options.items())]
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
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
