"""A small source that counts the images it computes, and teachers with a cache of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr

IMAGES = 6


class Counter:
    """A count of images, in an object that the cache does not treat as a setting."""

    images = 0


class Source(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.layer2 = nn.Conv2d(4, 6, 3)
        self.fc = nn.Linear(6, 5)
        self.seen = Counter()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.images += len(images)
        features = self.layer2(self.norm(self.layer1(images)).relu())
        return self.fc(features.mean(dim=(2, 3)))


def make_source() -> Source:
    torch.manual_seed(7)
    source = Source().eval()
    source.norm.running_mean.uniform_(-1, 1)
    source.norm.running_var.uniform_(0.5, 2)
    return source


@pytest.fixture(autouse=True)
def _announced() -> Iterator[None]:
    """Silence the announcement of the size, except where it is tested; any other warning of ours is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="the cache of the teacher's outputs")
        yield


@pytest.fixture
def source() -> Source:
    return make_source()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(IMAGES, 3, 9, 11, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def cached(tmp_path: Path) -> Callable[..., xr.FrozenTeacher]:
    """``cached(source, dtype='float16')``: a teacher with a new cache object on the same folder, as in a new run."""

    def make(source: nn.Module, adapter: nn.Module | None = None, **changes: Any) -> xr.FrozenTeacher:
        options = {"folder": tmp_path / "cache", "images": IMAGES, "versions": 4, **changes}
        return xr.FrozenTeacher(source, adapter, cache=xr.TeacherCache(**options))

    return make


@pytest.fixture
def computed() -> Callable[..., int]:
    """``computed(teacher, images, paths)``: how many images the teacher computes for that."""

    def count(teacher: xr.FrozenTeacher, images: Tensor, *paths: str) -> int:
        before = teacher.network.seen.images
        teacher.features(images, paths or ["layer2"])
        return teacher.network.seen.images - before

    return count


@pytest.fixture
def by_hand() -> Callable[[nn.Module, Tensor], dict[str, Tensor]]:
    """The taps of the source, each from the one before, with torch's own functions."""

    @torch.no_grad()
    def outputs(source: nn.Module, images: Tensor) -> dict[str, Tensor]:
        first = source.layer1(images)
        second = source.layer2(source.norm(first).relu())
        return {"layer1": first, "layer2": second, "fc": source.fc(second.mean((2, 3)))}

    return outputs
