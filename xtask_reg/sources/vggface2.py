"""Imports the published VGGFace2 ResNet-50 files into one convention: torchvision's names, RGB, .safetensors."""

from __future__ import annotations

import hashlib
import os
import reprlib
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from xtask_reg.inputs import InputConvention
from xtask_reg.sources.caffe_resnet import caffe_resnet50
from xtask_reg.sources.covering import load_covering
from xtask_reg.sources.numpy_pickle import load_numpy_pickle
from xtask_reg.sources.stored_archive import MAGIC
from xtask_reg.sources.weights import check_target, load_weights, regular_file, save_weights

VGGFACE2_INPUT = InputConvention(mean=(131.0912, 103.8827, 91.4953), std=(1, 1, 1), value_range=255)
"""What the imported networks expect: RGB in 0..255 minus the mean."""

_PICKLE, _DAG = "numpy pickle", "DAG state dict"
_CLASSES = 8631
_TORCH_FILES = (MAGIC, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")  # since torch 1.6; before
_STEM = {"conv1": "conv1_7x7_s2", "bn1": "conv1_7x7_s2_bn", "fc": "classifier"}
_BLOCK = {
    **{"conv1": "1x1_reduce", "conv2": "3x3", "conv3": "1x1_increase", "downsample.0": "1x1_proj"},
    **{"bn1": "1x1_reduce_bn", "bn2": "3x3_bn", "bn3": "1x1_increase_bn", "downsample.1": "1x1_proj_bn"},
}


def import_vggface2(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> dict[str, str]:
    """Convert a published VGGFace2 ResNet-50 of 8631 classes into a ``.safetensors`` file for ``caffe_resnet50``.

    Read, by content and without executing any of it, are

    - ``resnet50_ft_weight.pkl``, ``resnet50_scratch_weight.pkl``: pickled numpy arrays of a network for BGR images;
    - ``resnet50_ft_dag.pth``, ``resnet50_scratch_dag.pth``: PyTorch state dicts, named as in Caffe, of one for RGB.

    What is written has torchvision's names, float32 and RGB: the input channels of a BGR file are reversed.

    Returns:
        The metadata of the written file: ``source``, ``format``, ``tensors`` (how many the source file has),
        ``num_classes``, ``sha256`` (of the source file), and the fields of ``InputConvention``: ``channels``, and
        ``mean``, ``std``, ``value_range`` as comma-separated numbers.

    Raises:
        FileNotFoundError: if there is no such file, or no folder for ``out``.
        ValueError: if the file is none of these, damaged, incomplete, of another network, or holds values that are
            not finite or negative variances; if ``out`` does not end in ``.safetensors``.
        ImportError: if torchvision or safetensors is not installed.
    """
    source, out = regular_file(source), Path(out)
    check_target(out)
    with torch.random.fork_rng(devices=[]):
        net = caffe_resnet50(_CLASSES)
    state = net.state_dict()
    file_format, weights = _read(source, state.keys())
    load_covering(net, weights, name=str(source))
    if file_format == _PICKLE:
        state["conv1.weight"] = state["conv1.weight"].flip(1)
    _check_values(state, source)
    metadata = {
        "source": "VGGFace2 ResNet-50",
        "format": file_format,
        "tensors": str(len(weights)),
        "num_classes": str(_CLASSES),
        "sha256": _sha256(source),
        **VGGFACE2_INPUT.to_metadata(),
    }
    save_weights(state, out, metadata)
    return metadata


def _read(source: Path, names: Collection[str]) -> tuple[str, dict[str, Tensor]]:
    with source.open("rb") as file:
        is_torch_file = file.read(max(map(len, _TORCH_FILES))).startswith(_TORCH_FILES)
    if not is_torch_file:
        return _PICKLE, load_numpy_pickle(source)
    weights = load_weights(source)
    if any(name in weights for name in names):
        raise ValueError(
            f"{source} is a PyTorch file with torchvision's names, which the published PyTorch files do not have; it "
            "does not say whether it expects RGB or BGR. Import a published file. Or, if you know the order: fill "
            "caffe_resnet50() with it by load_covering, reverse conv1.weight along its second dimension if it expects "
            "BGR, and write the state dict with save_weights"
        )
    published = {_dag_name(name): name for name in names}
    if published.keys().isdisjoint(weights):
        raise ValueError(
            f"{source} is a PyTorch file of another network: expected names such as {next(iter(published))}, got "
            f"{reprlib.repr(list(weights))}"
        )
    return _DAG, {published.get(key, key): _as_linear(key, value) for key, value in weights.items()}


def _dag_name(name: str) -> str:
    """The name in the published file: ``conv2_1_1x1_reduce.weight`` for ``layer1.0.conv1.weight``."""
    module, _, kind = name.rpartition(".")
    if module in _STEM:
        return f"{_STEM[module]}.{kind}"
    layer, block, part = module.removeprefix("layer").split(".", 2)
    return f"conv{int(layer) + 1}_{int(block) + 1}_{_BLOCK[part]}.{kind}"


def _as_linear(key: str, value: Tensor) -> Tensor:
    """The published classifier is a 1x1 convolution; this makes its weight that of a linear layer."""
    return value.flatten(1) if key == "classifier.weight" and value.shape[2:] == (1, 1) else value


def _check_values(state: Mapping[str, Tensor], source: Path) -> None:
    for key, value in state.items():
        if not value.isfinite().all():
            raise ValueError(f"{source}: {key} has values that are not finite; download the file again")
        if key.endswith("running_var") and value.min() < 0:
            raise ValueError(f"{source}: {key}, a variance, has negative values; download the file again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
