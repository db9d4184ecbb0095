"""The unwrapped model of a runner."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper


def bare_model(runner: Any) -> Any:
    """The runner's model without the wrapper for distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
