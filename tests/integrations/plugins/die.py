"""Makes a run kill itself halfway through writing the checkpoint ``DIE_WRITING``, or before iteration ``DIE_AT``."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import Hook
from mmpose.registry import HOOKS

_put = LocalBackend.put


def _half_then_die(self: LocalBackend, obj: bytes, filepath: str | Path) -> None:
    if Path(filepath).name == os.environ.get("DIE_WRITING"):
        _put(self, obj[: len(obj) // 2], filepath)
        os.kill(os.getpid(), signal.SIGKILL)
    _put(self, obj, filepath)


LocalBackend.put = _half_then_die


@HOOKS.register_module()
class Die(Hook):
    """Dies in the middle of an epoch."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if str(runner.iter) == os.environ.get("DIE_AT"):
            os.kill(os.getpid(), signal.SIGKILL)
