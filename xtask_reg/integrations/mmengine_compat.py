"""What MMEngine 0.10.7 needs to run on today's PyTorch; importing this module applies it, and registers nothing."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from numpy._core import multiarray

_MULTIARRAY = ("numpy._core.multiarray", "numpy.core.multiarray")


def _allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read what MMEngine writes beside tensors, and nothing else."""
    dtypes = [type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "uint8", "float32", "float64", "U1")]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            bytes,
            np.ndarray,
            np.dtype,
            *dtypes,
            *((multiarray._reconstruct, f"{module}._reconstruct") for module in _MULTIARRAY),
            *((multiarray.scalar, f"{module}.scalar") for module in _MULTIARRAY),
            *((_history_statistic, f"{module}.getattr") for module in ("builtins", "__builtin__")),
        ]
    )


def _history_statistic(owner: Any, name: str) -> Any:
    """What a checkpoint gets for ``getattr``: MMEngine's log buffers name their own statistics by it."""
    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise pickle.UnpicklingError(f"the checkpoint asks for the attribute {name!r} of {owner!r}, which is refused")
    return getattr(owner, name)


_allow_mmengine_checkpoints()
