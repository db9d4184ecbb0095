"""Converts EfficientNet-Lite0 (ImageNet) to timm's names, from a file with those of the EfficientNet-PyTorch package.

    python benchmarks/prepare_efficientnet_lite0.py efficientnet-lite0.pth DATA/sources/efficientnet_lite0.safetensors

The names of that file begin with an underscore: _conv_stem, _blocks.N._bn0 and so on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
from torch import Tensor

from xtask_reg import InputConvention
from xtask_reg.sources import load_covering, load_weights, save_weights

BLOCKS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each of the seven stages."""

OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
INPUT = InputConvention(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
PLACES = [f"blocks.{stage}.{block}" for stage, blocks in enumerate(BLOCKS) for block in range(blocks)]


def timm_name(name: str) -> str:
    """``blocks.1.0.bn1.weight`` for ``_blocks.1._bn0.weight``; unknown names stay, and are refused later."""
    *path, leaf = name.split(".")
    if len(path) == 1 and path[0] in OUTSIDE:
        return f"{OUTSIDE[path[0]]}.{leaf}"
    if len(path) == 3 and path[0] == "_blocks" and path[1].isdigit() and int(path[1]) < len(PLACES):
        layers = FIRST_BLOCK if path[1] == "0" else BLOCK
        return f"{PLACES[int(path[1])]}.{layers.get(path[2], path[2])}.{leaf}"
    return name


def convert(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors under timm's names.

    Raises:
        ValueError: unless they are exactly those of timm's ``tf_efficientnet_lite0``.
    """
    renamed = {timm_name(key): value for key, value in weights.items()}
    load_covering(timm.create_model("tf_efficientnet_lite0"), renamed, name=name)
    return renamed


def main() -> None:
    """Convert, check and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the published .pth")
    parser.add_argument("out", type=Path, help="the .safetensors to write")
    arguments = parser.parse_args()
    weights = convert(load_weights(arguments.file), str(arguments.file))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(weights, arguments.out, {"source": "EfficientNet-Lite0, ImageNet", **INPUT.to_metadata()})
    print(f"{len(weights)} tensors to {arguments.out}")


if __name__ == "__main__":
    main()
