"""Patches that MMEngine 0.10.7 needs on current PyTorch; importing this module applies them, and registers nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from xtask_reg.integrations.checked_numpy import CheckedArray, checked_array, checked_scalar, refuse

_MULTIARRAY = ("numpy._core.multiarray", "numpy.core.multiarray")


class _CheckedBuffer(HistoryBuffer):
    """A safe stand-in for MMEngine's log buffer in checkpoints; it becomes one when its numbers have been checked."""

    def __init__(self, *_: object) -> None:
        refuse("a log buffer of unchecked values")

    def __setstate__(self, state: Any) -> None:
        match state:
            case {"max_length": int(length), "_log_history": CheckedArray(), "_count_history": CheckedArray()}:
                arrays = {name: np.array(state[name]) for name in ("_log_history", "_count_history")}
                super().__setstate__({"max_length": length, **arrays})
                self.__class__ = HistoryBuffer
            case _:
                refuse("a log buffer of an unknown state")


def _allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read the objects that MMEngine writes beside tensors, and no others."""
    dtypes = [type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "uint8", "float32", "float64", "U1")]
    torch.serialization.add_safe_globals(
        [
            (_CheckedBuffer, f"{HistoryBuffer.__module__}.HistoryBuffer"),
            bytes,
            np.dtype,
            *dtypes,
            (CheckedArray, "numpy.ndarray"),
            CheckedArray,  # also where another library has allowed NumPy's own ndarray, as transformers does
            *((checked_array, f"{module}._reconstruct") for module in _MULTIARRAY),
            *((checked_scalar, f"{module}.scalar") for module in _MULTIARRAY),
            *((_history_statistic, f"{module}.getattr") for module in ("builtins", "__builtin__")),
        ]
    )


def _history_statistic(owner: Any, name: str) -> Any:
    """A safe stand-in for ``getattr``, by which MMEngine's log buffers refer to their own statistics in checkpoints."""
    if not (owner is HistoryBuffer or owner is _CheckedBuffer) or name not in ("min", "max", "mean", "current"):
        refuse(f"the attribute {name!r} of {owner!r}")
    return getattr(HistoryBuffer, name)


_allow_mmengine_checkpoints()
