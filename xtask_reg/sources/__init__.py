"""Published source networks, safe reading of their weights, and training of a source of your own."""

from __future__ import annotations

from xtask_reg.sources.caffe_resnet import caffe_resnet50
from xtask_reg.sources.covering import load_covering
from xtask_reg.sources.dlib_resnet import DLIB_INPUT, DlibResNet29, dlib_resnet29, dlib_resnet29_dense
from xtask_reg.sources.numpy_pickle import load_numpy_pickle
from xtask_reg.sources.vggface2 import VGGFACE2_INPUT, import_vggface2
from xtask_reg.sources.weights import load_metadata, load_weights, save_weights

__all__ = [
    "DLIB_INPUT",
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
