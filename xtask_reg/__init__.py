"""Cross-task distillation regularizers: keep what a pretrained network knows while it learns a new task."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xtask_reg.api import *  # noqa: F403
else:  # hidden from type checkers, which would accept any name because of __getattr__

    def __getattr__(name: str) -> Any:
        """Import PyTorch only when a public name is first used, so that `xtask-reg --help` is fast."""
        if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        public = vars(import_module(f"{__name__}.api"))
        if name != "__all__" and name not in public["__all__"]:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, public[name])


def __dir__() -> list[str]:
    return ["__version__", *import_module(f"{__name__}.api").__all__]
