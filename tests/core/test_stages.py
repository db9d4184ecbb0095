"""Stages of encoders of many families: the paths by hand, the shapes from the strides, on 64 px images."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.video.resnet import BasicBlock, BasicStem, Conv3DSimple, VideoResNet

import xtask_reg as xr
from xtask_reg.sources import caffe_resnet50, dlib_resnet29_dense
from xtask_reg.stages import find_stages
from xtask_reg.submodules import find_module

SIDE = 64
STRIDES = (4, 8, 16, 32)
BLOCKS = ("blocks.1", "blocks.2", "blocks.4", "blocks.6")
LAYERS = ("layer1", "layer2", "layer3", "layer4")
UNTRAINED = {"encoder_weights": None}
features = functools.partial(timm.create_model, features_only=True)
models = torchvision.models


def mmpose(kind: str, **config: object) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import xtask_reg.integrations.mmpose  # noqa: F401
    from mmpose.registry import MODELS

    return MODELS.build(dict(type=kind, **config))


def estimator() -> nn.Module:
    head = dict(type="HeatmapHead", in_channels=512, out_channels=3, deconv_out_channels=(8,), deconv_kernel_sizes=(4,))
    return mmpose("TopdownPoseEstimator", backbone=dict(type="ResNet", depth=18), head=head)


class Student(nn.Module):
    """An encoder that returns its last map, and a decoder of upsampling convolutions."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = nn.Sequential(nn.Conv2d(256, 8, 1), *(nn.ConvTranspose2d(8, 8, 2, 2) for _ in range(4)))

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))


class UNet(nn.Module):
    """By hand, with one pooling for all levels, and skip connections."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(self.level(channels, 4) for channels in (3, 4, 4, 4, 4, 4))
        self.up = nn.ModuleList(self.level(8, 4) for _ in range(5))

    def level(self, channels: int, out: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        skips = [x := self.down[0](x)]
        skips += [x := level(self.pool(x)) for level in list(self.down)[1:]]
        x = skips.pop()
        for level in self.up:
            x = level(torch.cat([nn.functional.interpolate(x, scale_factor=2), skips.pop()], 1))
        return x


def prefixed(prefix: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(prefix + path for path in paths)


def numbered(prefix: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in numbers)


def unet_like(architecture: str, encoder: str) -> Callable[[], nn.Module]:
    return lambda: smp.create_model(architecture, encoder, **UNTRAINED)


MAPS = {
    "torchvision resnet": (models.resnet18, LAYERS, (64, 128, 256, 512)),
    "torchvision efficientnet": (models.efficientnet_b0, numbered("features.", 2, 3, 5, 8), (24, 40, 112, 1280)),
    "torchvision mobilenet": (models.mobilenet_v3_small, numbered("features.", 1, 3, 8, 12), (16, 24, 48, 576)),
    "torchvision convnext": (models.convnext_tiny, numbered("features.", 1, 3, 5, 7), (96, 192, 384, 768)),
    "torchvision vgg": (models.vgg11, numbered("features.", 9, 14, 19, 20), (256, 512, 512, 512)),
    "torchvision regnet": (models.regnet_y_400mf, numbered("trunk_output.block", 1, 2, 3, 4), (48, 104, 208, 440)),
    "torchvision densenet": (
        models.densenet121,
        prefixed("features.", ("denseblock1", "denseblock2", "denseblock3", "norm5")),
        (256, 512, 1024, 1024),
    ),
    "caffe resnet": (functools.partial(caffe_resnet50, 5), LAYERS, (256, 512, 1024, 2048)),
    "dlib": (dlib_resnet29_dense, prefixed("blocks.", ("32_3", "64_3", "128_2", "256_2")), (32, 64, 128, 256)),
    "timm resnet": (lambda: timm.create_model("resnet10t"), LAYERS, (64, 128, 256, 512)),
    "timm resnet features": (lambda: features("resnet10t"), LAYERS, (64, 128, 256, 512)),
    "timm efficientnet": (lambda: timm.create_model("efficientnet_b0"), BLOCKS, (24, 40, 112, 320)),
    "timm efficientnet lite": (lambda: features("tf_efficientnet_lite0"), BLOCKS, (24, 40, 112, 320)),
    "timm convnext": (lambda: timm.create_model("convnext_atto"), numbered("stages.", 0, 1, 2, 3), (40, 80, 160, 320)),
    "timm convnext features": (lambda: features("convnext_atto"), numbered("stages_", 0, 1, 2, 3), (40, 80, 160, 320)),
    "timm edgenext": (lambda: features("edgenext_xx_small"), numbered("stages_", 0, 1, 2, 3), (24, 48, 88, 168)),
    "timm mobilenet": (lambda: features("mobilenetv3_small_050"), numbered("blocks.", 0, 1, 3, 5), (8, 16, 24, 288)),
    "timm regnet": (lambda: timm.create_model("regnetx_002"), numbered("s", 1, 2, 3, 4), (24, 56, 152, 368)),
    "timm hrnet": (
        lambda: features("hrnet_w18_small"), numbered("incre_modules.", 0, 1, 2, 3), (128, 256, 512, 1024),
    ),
    "mmpose resnet": (lambda: mmpose("ResNet", depth=18), LAYERS, (64, 128, 256, 512)),
    "mmpose caffe resnet": (lambda: mmpose("CaffeResNet", depth=50), LAYERS, (256, 512, 1024, 2048)),
    "mmpose mobilenet": (
        lambda: mmpose("MobileNetV3"), numbered("layer", 1, 3, 8, 11), (16, 24, 48, 96),
    ),
    "mmpose estimator": (estimator, prefixed("backbone.", LAYERS), (64, 128, 256, 512)),
    "mmpose module backbone": (
        lambda: mmpose("ModuleBackbone", module="timm/mobilenetv3_small_050"),
        numbered("net.blocks.", 0, 1, 3, 5),
        (8, 16, 24, 288),
    ),
    "smp unet": (unet_like("unet", "resnet18"), prefixed("encoder.", LAYERS), (64, 128, 256, 512)),
    "smp fpn": (unet_like("fpn", "efficientnet-b0"), numbered("encoder._blocks.", 2, 4, 10, 15), (24, 40, 112, 320)),
    "smp timm-": (unet_like("unet", "timm-efficientnet-b0"), prefixed("encoder.", BLOCKS), (24, 40, 112, 320)),
    "smp tu-": (unet_like("unet", "tu-resnet10t"), prefixed("encoder.model.", LAYERS), (64, 128, 256, 512)),
    "student": (
        lambda: Student(dlib_resnet29_dense()),
        prefixed("encoder.blocks.", ("32_3", "64_3", "128_2", "256_2")),
        (32, 64, 128, 256),
    ),
    "unet by hand": (UNet, numbered("down.", 2, 3, 4, 5), (4, 4, 4, 4)),
}  # fmt: skip


class WithoutSamples(nn.Module):
    """MMPose's estimator, called with images only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> object:
        return self.network(images, None)


def delivered(model: nn.Module, paths: list[str], side: int = SIDE) -> list[tuple[int, ...]]:
    """The shapes that a frozen teacher delivers at the paths."""
    callable_with_images = WithoutSamples(model) if hasattr(model, "data_preprocessor") else model
    prefix = "network." if callable_with_images is not model else ""
    taps = xr.FrozenTeacher(callable_with_images).features(torch.rand(2, 3, side, side), [prefix + p for p in paths])
    return [tuple(taps[prefix + path].shape) for path in paths]


@pytest.mark.parametrize("family", MAPS)
def test_stages_and_their_maps(family):
    make, paths, channels = MAPS[family]
    model = make()
    assert find_stages(model) == list(paths)
    assert delivered(model, list(paths)) == [(2, c, SIDE // s, SIDE // s) for c, s in zip(channels, STRIDES)]
    if family not in ("dlib", "student"):  # dlib's network needs at least 45 pixels
        assert find_stages(model, torch.zeros(2, 3, 32, 32)) == list(paths)


@pytest.mark.parametrize(
    ("make", "paths", "strides"),
    [
        (unet_like("deeplabv3plus", "resnet18"), prefixed("encoder.", LAYERS), (4, 8, 16, 16)),
        (unet_like("deeplabv3", "resnet18"), prefixed("encoder.", LAYERS), (4, 8, 8, 8)),
        (unet_like("deeplabv3plus", "tu-efficientnet_lite0"), numbered("encoder.model.blocks.", 1, 2, 6), (4, 8, 16)),
    ],
)
def test_dilated_stages(make, paths, strides):
    model = make()
    assert find_stages(model) == list(paths)
    assert [shape[2] for shape in delivered(model, list(paths))] == [SIDE // stride for stride in strides]


VIT = functools.partial(timm.create_model, "vit_tiny_patch16_224", depth=4, embed_dim=8, num_heads=2)


@pytest.mark.parametrize(
    ("make", "prefix", "side"),
    [
        (VIT, "blocks.", 224),
        (functools.partial(VIT, img_size=SIDE), "blocks.", SIDE),
        (functools.partial(VIT, img_size=96), "blocks.", 96),
        (functools.partial(VIT, features_only=True), "model.blocks.", 224),
        (functools.partial(models.VisionTransformer, SIDE, 16, 4, 2, 8, 8), "encoder.layers.encoder_layer_", SIDE),
        (functools.partial(models.VisionTransformer, 96, 16, 4, 2, 8, 8), "encoder.layers.encoder_layer_", 96),
    ],
)
def test_blocks_of_transformers(make, prefix, side):
    """Tokens of width 8: one for each patch of 16 x 16 pixels, and the class token."""
    model = make()
    paths = [f"{prefix}{number}" for number in range(4)]
    assert find_stages(model) == paths
    assert delivered(model, paths, side) == [(2, (side // 16) ** 2 + 1, 8)] * 4


def test_transformer_for_images_that_are_not_square():
    assert find_stages(VIT(img_size=(32, 96))) == [f"blocks.{number}" for number in range(4)]


def test_wrappers_do_not_matter():
    net = models.resnet18()
    assert find_stages(nn.DataParallel(net)) == list(LAYERS)
    assert find_stages(torch.compile(net)) == list(LAYERS)
    inner = nn.Sequential(torch.compile(net))
    paths = find_stages(inner)
    assert [find_module(inner, path) for path in paths] == [net.layer1, net.layer2, net.layer3, net.layer4]


def test_detectors_resize_their_images():
    make = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
    detector = make(weights=None, weights_backbone=None)
    with pytest.raises(ValueError, match="no stages were found in FasterRCNN"):
        find_stages(detector)
    assert find_stages(detector.backbone) == list(numbered("body.", 3, 6, 12, 16))


def halving(*channels: int) -> nn.Module:
    """Five convolutions of stride 2."""
    last = channels[-1]
    first = [nn.Conv2d(one, other, 2, 2) for one, other in itertools.pairwise(channels)]
    return nn.Sequential(*first, *(nn.Conv2d(last, last, 2, 2) for _ in range(5 - len(first))))


def test_images_can_be_given():
    """Needed for a network that accepts neither 64 nor 224 pixels."""
    net = nn.Sequential(halving(3, 3), nn.Flatten(), nn.Linear(18, 2))
    with pytest.raises(ValueError, match=r"Sequential cannot be called .* \(1, 3, 64, 64\).* give images=... that"):
        find_stages(net)
    assert find_stages(net, torch.zeros(1, 3, 64, 96)) == list(numbered("0.", 1, 2, 3, 4))


class HeadFirst(nn.Module):
    """Its first registered convolution is the last that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(7, 2, 1)
        self.encoder = halving(3, 7)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))


@pytest.mark.parametrize(
    ("make", "paths"),
    [
        (lambda: halving(1, 4), ("1", "2", "3", "4")),
        (lambda: halving(12, 4), ("1", "2", "3", "4")),
        (lambda: timm.create_model("resnet10t", in_chans=5), LAYERS),
        (lambda: features("convnext_atto", in_chans=1), numbered("stages_", 0, 1, 2, 3)),
        (lambda: VIT(in_chans=5), numbered("blocks.", 0, 1, 2, 3)),
        (HeadFirst, numbered("encoder.", 1, 2, 3, 4)),
    ],
)
def test_as_many_channels_as_the_first_convolution_takes(make, paths):
    assert find_stages(make()) == list(paths)


def test_volumes():
    net = VideoResNet(BasicBlock, [Conv3DSimple] * 4, [1, 1, 1, 1], BasicStem, num_classes=5)
    assert find_stages(net) == list(LAYERS[1:])  # the stem halves the height and the width only
    assert find_stages(net, torch.zeros(1, 3, 8, 32, 32)) == list(LAYERS[1:])


def test_a_network_deeper_than_the_images_have_pixels():
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3, 2, 1) for _ in range(9)))
    assert find_stages(net) == list(numbered("", *range(1, 9)))


class Weighted(models.ResNet):
    """Channels of the last stage are weighted by their means, in a sibling module of the stages."""

    def __init__(self) -> None:
        super().__init__(models.resnet.BasicBlock, [1, 1, 1, 1])
        self.weights = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(512, 512, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.weights(x) * x


@pytest.mark.parametrize("side", [32, 64, 224])
def test_what_gives_a_single_cell_of_every_image_is_no_stage(side):
    assert find_stages(Weighted(), torch.zeros(1, 3, side, side)) == list(LAYERS)


class OneSize(nn.Module):
    def __init__(self, side: int, *layers: nn.Module) -> None:
        super().__init__()
        self.side, self.net = side, nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2:] == (self.side, self.side)
        return self.net(images)


@pytest.mark.parametrize(("side", "head"), [(64, []), (224, [nn.Conv2d(3, 2, 1)])], ids=["pooling", "small from large"])
def test_a_pooled_cell_needs_no_larger_images(side, head):
    net = OneSize(side, *halving(3, 3), nn.AdaptiveAvgPool2d(1), *head)
    assert find_stages(net) == list(numbered("net.", 1, 2, 3, 4))


def test_a_single_cell_of_the_only_size_is_refused():
    """Only larger images would show whether the last convolution is a stage."""
    net = nn.Sequential(*halving(3, 3), nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"\(1, 3, 32, 32\) '4' of Sequential gives a single cell; .*stages=\{student"):
        find_stages(net, torch.zeros(1, 3, 32, 32))


def test_a_second_descent_does_not_count():
    once = [nn.Conv2d(3, 3, 2, 2) for _ in range(5)]
    net = nn.Sequential(*once, nn.Upsample(scale_factor=4), nn.Conv2d(3, 3, 4, 4))
    assert find_stages(net) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    "make",
    [
        nn.Identity,
        lambda: nn.Conv2d(3, 4, 3),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 4, 2, 2)),
        lambda: nn.Sequential(*(nn.ConvTranspose2d(3, 3, 2, 2) for _ in range(4))),
        lambda: timm.create_model("levit_128s"),  # a stem of maps, then tokens of several sizes
        lambda: mmpose("HourglassNet", downsample_times=3, stage_channels=(256,) * 4, stage_blocks=(1,) * 4),
    ],
    ids=["nothing", "one module", "two stages", "upsampling", "levit", "hourglass"],
)  # fmt: skip
def test_refuses_rather_than_guesses(make):
    model = make()
    with pytest.raises(ValueError, match="no stages were found in .*`xtask-reg taps`") as error:
        find_stages(model)
    assert type(model).__name__ in str(error.value)
    assert "name the taps yourself, stages={student's: source's}" in str(error.value)


class Noisy(nn.Module):
    """Draws random numbers even in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(models.resnet18(), nn.Dropout())

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + torch.rand_like(x))


def test_leaves_the_model_and_the_random_state_as_they_are():
    model = Noisy().train()
    model.net[0].layer2.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    find_stages(model)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
