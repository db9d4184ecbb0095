"""A process with a cache, ``run.py ROLE FOLDER``; prints its findings as JSON."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import xtask_reg as xr

IMAGES, CHANNELS = 24, 64


class Source(nn.Module):
    """With an output of 64 KiB an image, in float32."""

    __module__ = "source"  # one class, in the program and in the tests that read it

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Conv2d(3, CHANNELS, 1)
        self.computed: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.computed.append(len(images))
        return self.layer(images)


def images() -> Tensor:
    return torch.randn(IMAGES, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def teacher(folder: str | Path, **changes: Any) -> xr.FrozenTeacher:
    return xr.FrozenTeacher(Source(), cache=xr.TeacherCache(folder, **{"images": IMAGES, **changes}))


def train(folder: str) -> None:
    """Three epochs in this process's own order; each output is compared with the expected one."""
    one, wanted = teacher(folder), Source().layer(images()).detach()
    generator = torch.Generator().manual_seed(os.getpid())
    for _ in range(3):
        for rows in torch.randperm(IMAGES, generator=generator).split(4):
            found = one.features(images()[rows], ["layer"])["layer"]
            torch.testing.assert_close(found, wanted[rows])
            time.sleep(0.005)
    print(json.dumps({"computed": sum(one.network.computed)}))


def die(folder: str) -> None:
    """Is killed when half of the second batch is written."""
    one = teacher(folder)
    one.features(images()[:4], ["layer"])
    path, (file,) = type(Path(folder)), Path(folder).rglob("*.cache")
    opened = path.open

    def half(self: Path, *args: Any, **kwargs: Any) -> Any:
        raw = opened(self, *args, **kwargs)
        if self == file and args[:1] == ("ab",):
            return _Half(raw)
        return raw

    path.open = half
    one.features(images()[4:8], ["layer"])


class _Half:
    """A file of which the first write is interrupted by SIGKILL."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> _Half:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def seek(self, *args: Any) -> int:
        return self.file.seek(*args)

    def write(self, content: memoryview) -> int:
        self.file.write(content[: len(content) * 5 // 8])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


def limited(folder: str) -> None:
    """The files of this process may not grow beyond five entries and a half."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (11 * 2**15, 11 * 2**15))
    one = teacher(folder)
    one.features(images()[:4], ["layer"])
    try:
        one.features(images()[4:8], ["layer"])
    except OSError as error:
        print(json.dumps({"error": str(error)}))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="the cache of the teacher's outputs")
    {"train": train, "die": die, "limited": limited}[sys.argv[1]](sys.argv[2])
