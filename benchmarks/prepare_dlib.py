"""Converts dlib's face recognition network to a PyTorch state dict.

The npm package @vladmandic/face-api (MIT) contains the network, quantised to 8 bits, as TensorFlow.js weights:
    npm pack @vladmandic/face-api && tar xzf vladmandic-face-api-*.tgz
    python benchmarks/prepare_dlib.py package/model DATA/sources/dlib_face_resnet29_128d.pth
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xtask_reg.sources import dlib_resnet29, load_covering

MANIFEST = "face_recognition_model-weights_manifest.json"
LEAVES = {"conv/filters": "conv.weight", "conv/bias": "conv.bias", "scale/weights": "weight", "scale/biases": "bias"}


def read_tfjs(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a TensorFlow.js weights manifest, dequantised to float32."""
    arrays = {}
    for group in json.loads((folder / MANIFEST).read_text()):
        data = b"".join((folder / path).read_bytes() for path in group["paths"])
        start = 0
        for entry in group["weights"]:
            quantised = entry.get("quantization")
            dtype = np.dtype(quantised["dtype"] if quantised else entry["dtype"])
            array = np.frombuffer(data, dtype, int(np.prod(entry["shape"])), start).reshape(entry["shape"])
            start += array.nbytes
            if quantised:
                array = (array.astype(np.float32) * quantised["scale"] + quantised["min"]).astype(np.float32)
            arrays[entry["name"]] = array
        if start != len(data):
            raise ValueError(f"{folder}: the weights are {len(data)} bytes, the manifest describes {start}")
    return arrays


def torch_name(name: str) -> str:
    """``blocks.64_down.conv1.weight`` for ``conv64_down/conv1/scale/weights``."""
    if name == "fc":
        return "fc.weight"
    layer, _, leaf = name.removeprefix("conv").partition("/")
    if layer == "32_down":
        return f"stem.{LEAVES[leaf]}"
    unit, _, leaf = leaf.partition("/")
    return f"blocks.{layer}.{unit}.{LEAVES[leaf]}"


def torch_layout(array: np.ndarray) -> Tensor:
    """TensorFlow stores (height, width, in, out) and (in, out); PyTorch (out, in, height, width) and (out, in)."""
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
    return torch.from_numpy(array.transpose(order).copy())


def main() -> None:
    """Convert, check that the tensors cover the network, and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the package's folder 'model'")
    parser.add_argument("out", type=Path, help="the .pth to write")
    arguments = parser.parse_args()
    weights = {torch_name(name): torch_layout(array) for name, array in read_tfjs(arguments.folder).items()}
    load_covering(dlib_resnet29(), weights, name=str(arguments.folder))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, arguments.out)
    print(f"{len(weights)} tensors to {arguments.out}")


if __name__ == "__main__":
    main()
