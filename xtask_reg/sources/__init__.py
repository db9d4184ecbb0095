"""Published source networks, and the safe reading of their weights."""

from __future__ import annotations

from .caffe_resnet import caffe_resnet50
from .dlib_resnet import DlibResNet29, dlib_resnet29, dlib_resnet29_dense
from .numpy_pickle import load_numpy_pickle
from .vggface2 import VGGFACE2_INPUT, import_vggface2
from .weights import load_covering, load_metadata, load_weights, save_weights

__all__ = [
    "VGGFACE2_INPUT",
    "DlibResNet29",
    "caffe_resnet50",
    "dlib_resnet29",
    "dlib_resnet29_dense",
    "import_vggface2",
    "load_covering",
    "load_metadata",
    "load_numpy_pickle",
    "load_weights",
    "save_weights",
]
