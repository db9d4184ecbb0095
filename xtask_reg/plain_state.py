"""Submodules that ``state_dict`` does not show."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn


def keep_out_of_state_dict(owner: nn.Module, child: str) -> None:
    """Make ``owner.state_dict()`` and ``owner.load_state_dict()`` ignore one of its children.

    The child's parameters remain in ``owner.parameters()``: they are optimized and synchronised, but checkpoints have
    exactly the keys that the owner would have without the child, and load strictly.
    """
    owner.register_state_dict_post_hook(partial(_leave_out, child))
    owner.register_load_state_dict_pre_hook(partial(_put_own_back, child))


def _leave_out(child: str, module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}{child}.")]:
        del state[key]


def _put_own_back(child: str, module: nn.Module, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    own = getattr(module, child, None)
    if own is not None:
        state.update({f"{prefix}{child}.{key}": value for key, value in own.state_dict().items()})
