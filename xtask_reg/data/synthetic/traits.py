"""Dataclass fields that are drawn at random from a range."""

from __future__ import annotations

from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def trait(low: float, high: float, *, default: float | None = None, power: float = 1.0) -> Any:
    """A field drawn as ``low + (high - low) * u ** power``, u uniform in [0, 1); by default the middle of the range."""
    middle = (low + high) / 2 if default is None else default
    return field(default=middle, metadata={"draw": lambda rng: float(low + (high - low) * rng.random() ** power)})


def choice(count: int) -> Any:
    """An integer field drawn from ``range(count)``; its default is 0."""
    return field(default=0, metadata={"draw": lambda rng: int(rng.integers(count))})


def draw_traits(cls: type[T], key: tuple[int, ...]) -> T:
    """An instance of the dataclass ``cls`` whose fields are drawn, in order, from a generator seeded with ``key``.

    Raises:
        ValueError: a number in ``key`` is negative.
    """
    if min(key) < 0:
        raise ValueError(f"seeds must be >= 0, got {key}")
    rng = np.random.default_rng(np.random.SeedSequence(key))
    return cls(**{f.name: f.metadata["draw"](rng) for f in fields(cls)})
