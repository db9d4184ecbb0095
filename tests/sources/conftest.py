"""The published VGGFace2 network, and pickles as from Python 2 and NumPy 1."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable

import numpy as np
import pytest


class Python2Pickler(pickle._Pickler):
    """Text and raw data are one type, written as (SHORT_)BINSTRING, and dtypes have 0 and 1 for False and True."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        self.write((struct.pack("<sB", b"U", len(raw)) if len(raw) < 256 else struct.pack("<si", b"T", len(raw))) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string

    def save_reduce(self, func, args, *rest, **options) -> None:
        super().save_reduce(func, (args[0], 0, 1) if func is np.dtype else args, *rest, **options)


@pytest.fixture(scope="session")
def python2_pickle() -> Callable[[dict[str, np.ndarray]], bytes]:
    """``cPickle.dumps(arrays, 2)`` of Python 2."""

    def dumps(arrays: dict[str, np.ndarray]) -> bytes:
        buffer = io.BytesIO()
        Python2Pickler(buffer, 2).dump(arrays)
        return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")

    return dumps


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the VGGFace2 ResNet-50 under its Caffe name."""
    stages = {2: (64, 256, 3), 3: (128, 512, 4), 4: (256, 1024, 6), 5: (512, 2048, 3)}  # inside, output, blocks
    convs: dict[str, tuple[int, ...]] = {"conv1_7x7_s2": (64, 3, 7, 7)}
    inputs = 64
    for stage, (inner, outer, blocks) in stages.items():
        for block in range(1, blocks + 1):
            name = f"conv{stage}_{block}"
            if block == 1:
                convs[f"{name}_1x1_proj"] = (outer, inputs, 1, 1)
            convs[f"{name}_1x1_reduce"] = (inner, inputs, 1, 1)
            convs[f"{name}_3x3"] = (inner, inner, 3, 3)
            convs[f"{name}_1x1_increase"] = (outer, inner, 1, 1)
            inputs = outer
    shapes = {f"{name}.weight": shape for name, shape in convs.items()}
    for kind in ("weight", "bias", "running_mean", "running_var"):
        shapes |= {f"{name}_bn.{kind}": shape[:1] for name, shape in convs.items()}
    return shapes | {"classifier.weight": (8631, 2048, 1, 1), "classifier.bias": (8631,)}
