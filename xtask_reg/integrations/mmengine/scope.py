"""The registries in which the parts of a model are looked up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.registry import MODELS, DefaultScope
from torch import nn


def scope_of(model: nn.Module) -> str | None:
    """The package that the model's class derives from: ``'mmdet'`` for a subclass of its FCOS."""
    packages = (base.__module__.partition(".")[0] for base in type(model).__mro__)
    return next((package for package in packages if package in MODELS.children), None)


@contextmanager
def own_scope(model: nn.Module) -> Iterator[None]:
    """Inside the block, MMEngine's registries also find the parts of the model's package, if no other scope is set."""
    current = DefaultScope.get_current_instance()
    is_set = current is not None and current.scope_name != MODELS.scope
    with DefaultScope.overwrite_default_scope(None if is_set else scope_of(model)):
        yield
