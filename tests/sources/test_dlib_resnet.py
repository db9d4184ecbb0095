"""dlib's ResNet-29 against a functional forward pass, written from the description of the network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xtask_reg.sources import DlibResNet29, dlib_resnet29, dlib_resnet29_dense, load_weights, save_weights

# Output channels, input channels, whether the block halves the size.
BLOCKS = {
    **{f"32_{i}": (32, 32, False) for i in (1, 2, 3)},
    "64_down": (64, 32, True),
    **{f"64_{i}": (64, 64, False) for i in (1, 2, 3)},
    "128_down": (128, 64, True),
    **{f"128_{i}": (128, 128, False) for i in (1, 2)},
    "256_down": (256, 128, True),
    **{f"256_{i}": (256, 256, False) for i in (1, 2)},
    "256_down_out": (256, 256, True),
}


def published_shapes(dense: bool) -> dict[str, tuple[int, ...]]:
    convs = {"stem": (32, 3, 7, 7)}
    for name, (channels, inputs, _) in BLOCKS.items():
        if not (dense and name == "256_down_out"):
            convs[f"blocks.{name}.conv1"] = (channels, inputs, 3, 3)
            convs[f"blocks.{name}.conv2"] = (channels, channels, 3, 3)
    shapes: dict[str, tuple[int, ...]] = {} if dense else {"fc.weight": (128, 256)}
    for name, shape in convs.items():
        shapes |= {f"{name}.conv.weight": shape, f"{name}.conv.bias": shape[:1]}
        shapes |= {f"{name}.weight": shape[:1], f"{name}.bias": shape[:1]}
    return shapes


def reference(weights: dict[str, Tensor], images: Tensor, dense: bool) -> Tensor:
    """Here the affine map is folded into the convolution, and zero padding is addition into a larger array."""

    def conv(name: str, x: Tensor, stride: int, padding: int) -> Tensor:
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        kernel = weights[f"{name}.conv.weight"] * scale[:, None, None, None]
        return F.conv2d(x, kernel, weights[f"{name}.conv.bias"] * scale + shift, stride, padding)

    x = conv("stem", images, 2, 3 if dense else 0).clamp(min=0)
    x = F.max_pool2d(x, 3, 2, 1 if dense else 0)
    for name, (_, _, down) in BLOCKS.items():
        if dense and name == "256_down_out":
            return x
        y = conv(f"blocks.{name}.conv1", x, 2 if down else 1, 0 if down else 1).clamp(min=0)
        y = conv(f"blocks.{name}.conv2", y, 1, 1)
        shortcut = F.avg_pool2d(x, 2, 2) if down else x
        total = torch.zeros([max(sizes) for sizes in zip(y.shape, shortcut.shape, strict=True)], dtype=x.dtype)
        for part in (y, shortcut):
            total[:, : part.shape[1], : part.shape[2], : part.shape[3]] += part
        x = total.clamp(min=0)
    return x.flatten(2).mean(2) @ weights["fc.weight"].T


def random_net(dense: bool) -> DlibResNet29:
    generator = torch.Generator().manual_seed(7)
    net = DlibResNet29(dense)
    with torch.no_grad():
        for parameter in net.parameters():  # scales and shifts too, which start as ones and zeros
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.3 if parameter.ndim == 1 else 0.01))
    return net


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("size", [(150, 150), (128, 128), (256, 256), (151, 129), (104, 203)])
def test_forward_agrees_with_the_description(dense: bool, size: tuple[int, int]) -> None:
    net = random_net(dense).double()
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            net(images), reference(net.state_dict(), images, dense), rtol=1e-9, atol=1e-9, check_stride=False
        )


def test_the_maps_of_every_stage_are_those_inside_the_dense_network() -> None:
    single, every = random_net(dense=True), DlibResNet29(dense=True, every_stage=True)
    every.load_state_dict(single.state_dict())
    inside: dict[str, Tensor] = {}
    for name, block in single.blocks.named_children():
        block.register_forward_hook(lambda _, __, output, name=name: inside.update({name: output}))
    images = torch.randn(2, 3, 128, 96, generator=torch.Generator().manual_seed(3))
    last, maps = single(images), every(images)
    assert [tuple(each.shape) for each in maps] == [(2, 32, 32, 24), (2, 64, 16, 12), (2, 128, 8, 6), (2, 256, 4, 3)]
    assert all(torch.equal(own, inside[name]) for own, name in zip(maps, ("32_3", "64_3", "128_2", "256_2")))
    assert torch.equal(maps[-1], last)


def test_an_embedding_has_no_stages() -> None:
    with pytest.raises(ValueError, match="every_stage=True with dense=False; expected dense=True"):
        DlibResNet29(every_stage=True)


@pytest.mark.parametrize("dense", [False, True])
def test_parameters_are_named_and_shaped_as_published(dense: bool) -> None:
    assert {key: tuple(value.shape) for key, value in DlibResNet29(dense).state_dict().items()} == published_shapes(
        dense
    )


@pytest.mark.parametrize(
    ("dense", "size", "expected"),
    [
        (False, (150, 150), (2, 128)),
        (False, (256, 192), (2, 128)),
        (True, (256, 256), (2, 256, 8, 8)),
        (True, (64, 160), (2, 256, 2, 5)),
    ],
)
def test_output_shapes(dense: bool, size: tuple[int, int], expected: tuple[int, ...]) -> None:
    with torch.no_grad():
        assert DlibResNet29(dense)(torch.zeros(2, 3, *size)).shape == expected


@pytest.mark.parametrize("dense", [False, True])
def test_every_parameter_gets_a_gradient(dense: bool) -> None:
    net = random_net(dense)
    net(torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(2))).square().sum().backward()
    assert [key for key, value in net.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("dense", [False, True])
def test_what_a_hook_saw_keeps_its_values(dense: bool) -> None:
    net = random_net(dense)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in net.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: (output, output.clone())}))
    net(torch.randn(1, 3, 128, 128)).sum().backward()
    assert len(seen) == len(list(net.modules()))
    assert [name for name, (output, copy) in seen.items() if not torch.equal(output, copy)] == []


@pytest.mark.parametrize(("dense", "smallest"), [(False, 103), (True, 45)])
def test_smallest_size(dense: bool, smallest: int) -> None:
    net = DlibResNet29(dense)
    with torch.no_grad():
        assert net(torch.zeros(1, 3, smallest, smallest)).isfinite().all()
    for size in [(smallest - 1, 200), (200, smallest - 1)]:
        with pytest.raises(ValueError, match=f"at least {smallest}"):
            net(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("shape", [(3, 150, 150), (1, 1, 150, 150), (1, 150, 150, 3)])
def test_other_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        DlibResNet29()(torch.zeros(shape))


def test_factories_load_a_file_of_the_embedding_network(tmp_path: Path) -> None:
    weights = random_net(dense=False).state_dict()
    save_weights(weights, tmp_path / "net.safetensors")
    for net in (dlib_resnet29(tmp_path / "net.safetensors"), dlib_resnet29_dense(tmp_path / "net.safetensors")):
        assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    assert len(dlib_resnet29_dense(every_stage=True)(torch.zeros(1, 3, 64, 64))) == 4


@pytest.mark.parametrize("factory", [dlib_resnet29, dlib_resnet29_dense])
def test_factories_refuse_the_file_of_another_network(factory, tmp_path: Path) -> None:
    save_weights(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.safetensors")
    with pytest.raises(ValueError, match=r"linear\.safetensors"):
        factory(tmp_path / "linear.safetensors")
    assert isinstance(factory(), DlibResNet29)


@pytest.fixture
def published_file() -> Path:
    root = os.environ.get("XTASK_DATA_ROOT")
    if not root:
        pytest.skip("XTASK_DATA_ROOT is not set")
    path = Path(root, "sources", "dlib_face_resnet29_128d.pth")
    if not path.is_file():
        pytest.skip(f"no file {path}")
    return path


def test_published_file_fits(published_file: Path) -> None:
    weights = load_weights(published_file)
    assert {key: tuple(value.shape) for key, value in weights.items()} == published_shapes(dense=False)
    image = torch.rand(1, 3, 150, 150, generator=torch.Generator().manual_seed(3)) - 0.45
    for net in (dlib_resnet29(published_file), dlib_resnet29_dense(published_file)):
        with torch.no_grad():
            torch.testing.assert_close(
                net(image), reference(weights, image, net.dense), rtol=1e-4, atol=1e-4, check_stride=False
            )
