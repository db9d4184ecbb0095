"""What MMPose 1.3.2 needs to run on today's PyTorch; importing this module applies it.

It registers nothing with MMPose, and stands beside the package that does, so that a plain MMPose config may import it
alone: ``custom_imports = dict(imports=['xtask_reg.integrations.mmpose_compat'])``.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import pickle
import sys
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from numpy._core import multiarray

_MULTIARRAY = ("numpy._core.multiarray", "numpy.core.multiarray")


class _MissingOps(ModuleType):
    """Stands in for ``mmcv._ext`` where mmcv has no compiled operators (mmcv-lite)."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise NotImplementedError(
                f"mmcv's compiled operator {name!r} is not installed; it needs the full mmcv instead of mmcv-lite"
            )

        return missing


def _stand_in_for_missing_ops() -> None:
    if "mmcv._ext" not in sys.modules and importlib.util.find_spec("mmcv._ext") is None:
        module = _MissingOps("mmcv._ext")
        module.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", loader=None)
        sys.modules["mmcv._ext"] = module


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


_stand_in_for_missing_ops()
_allow_mmengine_checkpoints()
