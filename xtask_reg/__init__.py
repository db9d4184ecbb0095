"""Cross-task distillation regularizers: keep what a pretrained network knows while it learns a new task."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xtask_reg.api import *  # noqa: F403
else:  # with a __getattr__ every name would be right for type checkers

    def __getattr__(name: str) -> Any:
        """PyTorch is imported with the first public name: `xtask-reg --help` does without."""
        if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        public = vars(import_module(f"{__name__}.api"))
        if name != "__all__" and name not in public["__all__"]:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, public[name])


def __dir__() -> list[str]:
    return ["__version__", *import_module(f"{__name__}.api").__all__]
