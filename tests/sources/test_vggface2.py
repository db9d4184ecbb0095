"""The import of VGGFace2 networks, against a forward pass written from the published definition."""

from __future__ import annotations

import hashlib
import math
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtask_reg.inputs import InputAdapter, InputConvention
from xtask_reg.sources import load_covering, load_metadata, load_weights
from xtask_reg.sources.caffe_resnet import caffe_resnet50
from xtask_reg.sources.vggface2 import import_vggface2

Weights = dict[str, Tensor]

# Caffe's stage and its number of blocks
BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}
MEAN_RGB = (131.0912, 103.8827, 91.4953)
BN = ("weight", "bias", "running_mean", "running_var")


def torchvision_name(name: str) -> str:
    name = re.sub(r"^conv1_7x7_s2_bn", "bn1", name)
    name = re.sub(r"^conv1_7x7_s2", "conv1", name)
    name = re.sub(r"^conv(\d)_(\d)_", lambda found: f"layer{int(found[1]) - 1}.{int(found[2]) - 1}.", name)
    for part, number in {"1x1_reduce": 1, "3x3": 2, "1x1_increase": 3}.items():
        name = name.replace(f".{part}_bn", f".bn{number}").replace(f".{part}", f".conv{number}")
    name = name.replace("1x1_proj_bn", "downsample.1").replace("1x1_proj", "downsample.0")
    return name.replace("classifier", "fc")


def forward(weights: Weights, images: Tensor) -> dict[str, Tensor]:
    """What the published network computes, by torchvision's names of the modules."""

    def conv_bn(name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, weights[f"{name}.weight"], None, stride, padding)
        scale, shift, mean, variance = (weights[f"{name}_bn.{kind}"][:, None, None] for kind in BN)
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    x = conv_bn("conv1_7x7_s2", images, 2, 3).clamp(min=0)
    x = F.max_pool2d(x, 3, stride=2, padding=0, ceil_mode=True)
    outputs = {"maxpool": x}
    for stage, blocks in BLOCKS.items():
        for block in range(1, blocks + 1):
            name = f"conv{stage}_{block}"
            stride = 2 if block == 1 and stage > 2 else 1
            y = conv_bn(f"{name}_1x1_reduce", x, stride).clamp(min=0)
            y = conv_bn(f"{name}_3x3", y, padding=1).clamp(min=0)
            y = conv_bn(f"{name}_1x1_increase", y)
            x = (conv_bn(f"{name}_1x1_proj", x, stride) if block == 1 else x) + y
            x = x.clamp(min=0)
        outputs[f"layer{stage - 1}"] = x
    x = F.conv2d(F.avg_pool2d(x, 7, stride=1), weights["classifier.weight"], weights["classifier.bias"])
    return outputs | {"fc": x.flatten(1)}


@pytest.fixture(scope="module")
def weights(published_shapes: dict[str, tuple[int, ...]]) -> Weights:
    """A random network whose activations stay near 1."""
    generator = torch.Generator().manual_seed(3)
    result = {}
    for name, shape in published_shapes.items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            spread = 50 if name.startswith("conv1") else 1  # of the inputs
            result[name] = noise / math.sqrt(math.prod(shape[1:])) / spread
        elif name.endswith(("bn.weight", "running_var")):
            result[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            result[name] = 0.2 * noise
    return result


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """A smooth picture, (224, 224, 3) uint8, as OpenCV would read it: BGR."""
    noise = torch.randn(1, 3, 14, 14, generator=torch.Generator().manual_seed(5))
    smooth = F.interpolate(noise, size=(224, 224), mode="bicubic")[0].permute(1, 2, 0)
    return (120 + 60 * smooth + torch.tensor([-30.0, 0.0, 40.0])).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def references(weights: Weights, picture: Tensor) -> dict[str, dict[str, Tensor]]:
    """The network's outputs if it expects BGR images, as in the pickles, and if it expects RGB."""
    double = {name: value.double() for name, value in weights.items()}
    inputs = {
        "bgr": picture.double() - torch.tensor(MEAN_RGB[::-1]).double(),
        "rgb": picture.flip(2).double() - torch.tensor(MEAN_RGB).double(),
    }
    with torch.no_grad():
        return {order: forward(double, image.permute(2, 0, 1)[None]) for order, image in inputs.items()}


def outputs(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    for name in ("maxpool", "layer1", "layer2", "layer3", "layer4", "fc"):
        net.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    with torch.no_grad():
        net.eval().double()(images.double())
    return seen


def differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    assert found.keys() == expected.keys()
    return {name: ((found[name] - value).abs().max() / value.abs().max()).item() for name, value in expected.items()}


# The published formats


def as_arrays(weights: Weights) -> dict[str, np.ndarray]:
    arrays = {torchvision_name(name): value.numpy() for name, value in weights.items()}
    return arrays | {"fc.weight": arrays["fc.weight"][:, :, 0, 0]}


def write_pickle(weights: Weights, path: Path, python2_pickle: Callable[..., bytes]) -> None:
    path.write_bytes(pickle.dumps(as_arrays(weights), 2))


def write_python2_pickle(weights: Weights, path: Path, python2_pickle: Callable[..., bytes]) -> None:
    path.write_bytes(python2_pickle(as_arrays(weights)))


def write_dag(weights: Weights, path: Path, python2_pickle: Callable[..., bytes]) -> None:
    torch.save(weights, path)


def write_legacy_dag(weights: Weights, path: Path, python2_pickle: Callable[..., bytes]) -> None:
    counters = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(7) for name in weights if "var" in name
    }
    torch.save(weights | counters, path, _use_new_zipfile_serialization=False)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Emptied at the end: the files are large."""
    yield tmp_path
    for path in tmp_path.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("write", "name", "file_format", "order", "tensors"),
    [
        (write_pickle, "weight.pkl", "numpy pickle", "bgr", 267),
        (write_python2_pickle, "weight.pth", "numpy pickle", "bgr", 267),
        (write_dag, "dag.pth", "DAG state dict", "rgb", 267),
        (write_legacy_dag, "dag.pkl", "DAG state dict", "rgb", 320),
    ],
)
def test_an_imported_network_computes_what_the_published_does(
    write, name, file_format, order, tensors, weights, picture, references, folder: Path, python2_pickle
) -> None:
    write(weights, folder / name, python2_pickle)
    random_state = torch.get_rng_state()
    returned = import_vggface2(str(folder / name), folder / "net.safetensors")
    assert torch.equal(torch.get_rng_state(), random_state)

    metadata = load_metadata(folder / "net.safetensors")
    assert metadata == returned
    assert (metadata["source"], metadata["format"]) == ("VGGFace2 ResNet-50", file_format)
    assert (metadata["num_classes"], metadata["tensors"]) == ("8631", str(tensors))
    assert metadata["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    mean, std = (tuple(map(float, metadata[key].split(","))) for key in ("mean", "std"))
    convention = InputConvention(mean, std, metadata["channels"], float(metadata["value_range"]))
    assert convention == InputConvention(MEAN_RGB, (1, 1, 1), "rgb", 255)

    written = load_weights(folder / "net.safetensors")
    assert {value.dtype for key, value in written.items() if "num_batches" not in key} == {torch.float32}
    assert {value.item() for key, value in written.items() if "num_batches" in key} == {7 if tensors == 320 else 0}
    net = caffe_resnet50()
    load_covering(net, written)
    pixels = InputConvention(mean=(0, 0, 0), std=(1, 1, 1), channels="bgr", value_range=255)
    images = InputAdapter(pixels, convention)(picture.permute(2, 0, 1)[None].double())
    assert max(differences(outputs(net, images), references[order]).values()) < 1e-6


def padded_pooling(net: nn.Module) -> None:
    net.maxpool = nn.MaxPool2d(3, stride=2, padding=1)


def stride_on_3x3(net: nn.Module) -> None:
    net.layer3[0].conv1.stride, net.layer3[0].conv2.stride = (1, 1), (2, 2)


def other_channel_order(net: nn.Module) -> None:
    net.conv1.weight.data = net.conv1.weight.data.flip(1)


def other_epsilon(net: nn.Module) -> None:
    net.bn1.eps = 1e-3


@pytest.mark.parametrize(
    ("mistake", "first"),
    [
        (lambda net: None, None),
        (padded_pooling, "maxpool"),
        (stride_on_3x3, "layer3"),
        (other_channel_order, "maxpool"),
        (other_epsilon, "maxpool"),
    ],
)
def test_other_definitions_differ(mistake, first, weights, picture, references) -> None:
    net = caffe_resnet50()
    load_covering(net, {name: torch.from_numpy(value) for name, value in as_arrays(weights).items()})
    mistake(net)
    images = picture.flip(2).permute(2, 0, 1)[None].double() - torch.tensor(MEAN_RGB).double()[:, None, None]
    differing = [name for name, by in differences(outputs(net, images), references["rgb"]).items() if by > 1e-4]
    assert (differing or [None])[0] == first


@pytest.mark.parametrize(("height", "width"), [(224, 224), (256, 256), (150, 97), (32, 33)])
def test_other_sizes_and_classes(height: int, width: int) -> None:
    with torch.no_grad():
        assert caffe_resnet50(5).eval()(torch.zeros(1, 3, height, width)).shape == (1, 5)
