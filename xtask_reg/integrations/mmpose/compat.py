"""What MMPose 1.3.2 needs to run on today's PyTorch; importing this module applies it.

It registers nothing with MMPose: a plain MMPose config may import it alone,
``custom_imports = dict(imports=['xtask_reg.integrations.mmpose.compat'])``.
"""

from __future__ import annotations

import collections
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch


class _MissingOps(ModuleType):
    """Stands in for ``mmcv._ext`` where mmcv has no compiled operators (mmcv-lite)."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise NotImplementedError(
                f"mmcv's compiled operator {name!r} is not installed (this is mmcv-lite); install the full mmcv to use it"
            )

        return missing


def _stand_in_for_missing_ops() -> None:
    if "mmcv._ext" not in sys.modules and importlib.util.find_spec("mmcv._ext") is None:
        module = _MissingOps("mmcv._ext")
        module.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", loader=None)
        sys.modules["mmcv._ext"] = module


def _allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read the types that MMEngine writes beside tensors, and no others."""
    from mmengine.logging import HistoryBuffer
    from numpy._core import multiarray

    dtypes = [type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "uint8", "float32", "float64", "U1")]
    torch.serialization.add_safe_globals(
        [HistoryBuffer, collections.defaultdict, np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar, *dtypes]
    )


_stand_in_for_missing_ops()
_allow_mmengine_checkpoints()
