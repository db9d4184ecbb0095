"""Published source networks, and the safe reading of their weights."""

from __future__ import annotations

from .dlib_resnet import DlibResNet29, dlib_resnet29, dlib_resnet29_dense
from .weights import load_covering, load_metadata, load_weights, save_weights

__all__ = [
    "DlibResNet29",
    "dlib_resnet29",
    "dlib_resnet29_dense",
    "load_covering",
    "load_metadata",
    "load_weights",
    "save_weights",
]
