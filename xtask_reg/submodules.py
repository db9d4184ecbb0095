"""Submodules by their dotted paths, also in wrapped models."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain

from torch import nn
from torch.nn.parameter import is_lazy

from xtask_reg.kinds import check_kind

WRAPPERS = ("module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""The attribute names of the wrapped module in ``DistributedDataParallel``, ``torch.compile``, activation checkpointing
and ``FullyShardedDataParallel``."""


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` wrappers."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = model.get_submodule("_orig_mod")
        else:
            return model


def with_wrapped(module: nn.Module) -> Iterator[nn.Module]:
    """A module and those that it wraps, from the outside in."""
    yield module
    for name in WRAPPERS:
        if (inside := module._modules.get(name)) is not None:
            yield from with_wrapped(inside)


def may_be_child(name: str) -> bool:
    """Whether ``nn.ModuleDict`` accepts the name for a child."""
    return isinstance(name, str) and bool(name) and "." not in name and not hasattr(nn.ModuleDict(), name)


def check_not_lazy(model: nn.Module) -> None:
    """Raise ``ValueError`` if a parameter or buffer has no size before the first call."""
    if any(is_lazy(tensor) for tensor in chain(model.parameters(), model.buffers())):
        raise ValueError(f"{type(model).__name__} has lazy parameters: call it once with your images")


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path; ``module.``, ``_orig_mod.`` and other names of wrappers do not matter.

    Raises:
        ValueError: if there is no such submodule; the message names the nearest paths.
        TypeError: if the path is not a string.
    """
    check_kind(path, str, "a path", "the dotted path of a submodule, 'encoder.layer4' for instance")
    if path:
        with suppress(AttributeError):
            return model.get_submodule(path)
    modules = dict(model.named_modules(remove_duplicate=False))
    plain = {plain_path(name): module for name, module in reversed(modules.items()) if name}
    if plain_path(path) in plain:
        return plain[plain_path(path)]
    near = difflib.get_close_matches(path, plain, n=5, cutoff=0.4) or list(plain)[::-1][:5]
    raise ValueError(
        f"there is no submodule {path!r} in {type(model).__name__}; "
        + (f"the nearest are {', '.join(map(repr, near))}" if near else "it has no submodules")
    )


def plain_path(path: str) -> str:
    """A dotted path without the names of wrappers."""
    return ".".join(part for part in path.split(".") if part not in WRAPPERS)


def check_list_of_paths(paths: object) -> None:
    """Raise ``TypeError`` unless it is a list; a string would be taken for a list of letters."""
    if isinstance(paths, str):
        raise TypeError(f"{paths!r} is a string; expected a list of dotted paths, [{paths!r}]")
    check_kind(paths, Iterable, "the list of paths", "a list of dotted paths, ['encoder.layer4'] for instance")


def paired_paths(stages: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """The teacher's path by the student's; a list means that both have the same paths.

    Raises:
        TypeError: if it is neither a list nor a mapping.
    """
    check_list_of_paths(stages)
    return dict(stages) if isinstance(stages, Mapping) else {stage: stage for stage in stages}
