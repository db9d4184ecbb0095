"""Patches that MMPose 1.3.2 and MMDetection 3.3.0 need on current PyTorch; importing this module applies them.

It registers nothing, and is outside the package that does, so that a plain config can import it alone:
``custom_imports = dict(imports=['xtask_reg.integrations.mmpose_compat'])``.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any, NoReturn

import xtask_reg.integrations.mmengine_compat  # noqa: F401


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


_stand_in_for_missing_ops()
