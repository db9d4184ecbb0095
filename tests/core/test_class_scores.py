"""The connector from a source's last stage to its class scores, compared with the source's own output."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.video.resnet import BasicBlock as Block3D
from torchvision.models.video.resnet import BasicStem, Conv3DSimple, VideoResNet

import xtask_reg as xr
from xtask_reg.class_scores import ClassScores, class_scores
from xtask_reg.first_call import called_with

TINY = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32}
TINY |= {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_dropout_prob": 0.5, "num_labels": 5}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_labels": 5}


def resnet() -> nn.Module:
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)


def with_a_map_of_scores(*before: nn.Module, flatten: bool = False) -> nn.Module:
    """Classifies by a 1 x 1 convolution, and flattens its output, by a module or in ``forward``."""
    network = resnet()
    network.fc = nn.Sequential(*before, nn.Conv2d(512, 5, 1)) if before else nn.Conv2d(512, 5, 1)
    network.flat = nn.Flatten() if flatten else lambda scores: scores.flatten(1)

    def forward(images: Tensor) -> Tensor:
        stem = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        features = network.layer4(network.layer3(network.layer2(network.layer1(stem))))
        return network.flat(network.fc(network.avgpool(features)))

    network.forward = forward
    return network


def with_two_layers() -> nn.Module:
    network = resnet()
    network.fc = nn.Sequential(nn.Linear(512, 16), nn.Dropout(), nn.ReLU(), nn.Linear(16, 5))
    return network


class Pair(nn.Module):
    """Returns its scores beside what they are made from."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers(features), features


class First(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)[0]


def with_a_pair() -> nn.Module:
    network = with_two_layers()
    network.fc = Pair(network.fc)
    return First(network)


def with_a_window() -> nn.Module:
    layers = dict(list(resnet().named_children())[:-2])
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    network.add_module("fc", xr.PooledClassifier(nn.Linear(512, 5), window=2))
    return network


def vit(**options: object) -> nn.Module:
    sizes = {"img_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5}
    return timm.create_model("vit_tiny_patch16_224", **sizes | options)


class Averaging(SwinTransformer):
    """Averages its maps in its own ``forward``."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.features(images)).mean((1, 2)))


def swin(kind: type[nn.Module] = SwinTransformer) -> nn.Module:
    return kind([4, 4], 8, [1] * 4, [1, 1, 2, 2], [4, 4], num_classes=5)


def hugging_face(family: str, settings: dict[str, object]) -> nn.Module:
    config = getattr(transformers, f"{family}Config")(**settings)
    return getattr(transformers, f"{family}ForImageClassification")(config)


class Twice(nn.Module):
    """Computes its scores in two steps, one of which is not a module."""

    def __init__(self) -> None:
        super().__init__()
        self.net = resnet()

    def forward(self, images: Tensor) -> Tensor:
        return 2 * self.net(images)


class Scaled(nn.Module):
    """Multiplies by the factor that it is called with."""

    def __init__(self, default: float | None) -> None:
        super().__init__()
        self.default = default

    def forward(self, x: Tensor, factor: float | None = None) -> Tensor:
        return x * (factor or self.default)


def with_a_factor(default: float | None) -> nn.Module:
    network = with_two_layers()
    network.scaled = Scaled(default)

    def forward(images: Tensor) -> Tensor:
        stem = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        features = network.layer4(network.layer3(network.layer2(network.layer1(stem))))
        return network.fc(network.scaled(network.avgpool(features).flatten(1), 3.0))

    network.forward = forward
    return network


def with_a_norm() -> nn.Module:
    network = with_a_window()
    classifier = network.fc
    del network.fc
    network.add_module("norm", nn.BatchNorm2d(512))
    network.add_module("fc", classifier)
    return network


def with_a_head_that_pools() -> nn.Module:
    network = with_a_window()
    layers = nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 5)
    network.fc = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)
    return network


SOURCES: dict[str, tuple[Callable[[], nn.Module], str, str, type[nn.Module]]] = {
    "torchvision": (resnet, "layer4", "fc", xr.PooledClassifier),
    "two layers": (with_two_layers, "layer4", "fc", nn.Sequential),
    "two layers in a module that returns a tuple": (with_a_pair, "net.layer4", "net.fc.layers", nn.Sequential),
    "window": (with_a_window, "layer4", "fc", xr.PooledClassifier),
    "wrapped": (lambda: nn.DataParallel(resnet()), "layer4", "fc", xr.PooledClassifier),
    "map of scores": (with_a_map_of_scores, "layer4", "fc", xr.PooledClassifier),
    "map of scores, a module flattens": (
        lambda: with_a_map_of_scores(flatten=True), "layer4", "fc", xr.PooledClassifier
    ),
    "map of scores of two layers": (
        lambda: with_a_map_of_scores(nn.Conv2d(512, 512, 1), nn.ReLU()), "layer4", "fc", nn.Sequential
    ),
    "window after a norm": (with_a_norm, "layer4", "fc", nn.Sequential),
    "a head that pools": (with_a_head_that_pools, "layer4", "fc", nn.Sequential),
    "from a vector": (with_two_layers, "fc.0", "fc.3", nn.Sequential),
    "dla": (lambda: timm.create_model("dla34", num_classes=5), "level5", "fc", xr.PooledClassifier),
    "mobilenet": (torchvision.models.mobilenet_v3_small, "features.12", "classifier", nn.Sequential),
    "vgg": (lambda: torchvision.models.vgg11(num_classes=5), "features.20", "classifier", nn.Sequential),
    "volumes": (
        lambda: VideoResNet(Block3D, [Conv3DSimple] * 4, [1, 1, 1, 1], BasicStem, num_classes=5),
        "layer4", "fc", xr.PooledClassifier,
    ),
    "class token": (vit, "blocks.2", "head", nn.Sequential),
    "channels last": (swin, "features.7", "head", nn.Sequential),
    "channels last, averaged without a module": (lambda: swin(Averaging), "features.7", "head", nn.Sequential),
    "all tokens": (lambda: vit(global_pool="avg", class_token=False), "blocks.2", "head", nn.Sequential),
    "patches": (lambda: vit(global_pool="avg"), "blocks.2", "head", nn.Sequential),
    "hf vit": (lambda: hugging_face("ViT", TINY), "vit.layers.2", "classifier", nn.Sequential),
    "hf convnext": (
        lambda: hugging_face("ConvNext", STAGES), "convnext.encoder.stages.3", "classifier", nn.Sequential
    ),
}  # fmt: skip


def followed(network: nn.Module, stage: str) -> ClassScores | None:
    return class_scores(network, stage, called_with(network, None).images)


def with_norms_that_matter(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.rand_like(parameter))
    return network.eval()


@pytest.mark.parametrize("name", SOURCES)
def test_the_copy_gives_the_source_s_scores_and_trains(name: str) -> None:
    torch.manual_seed(0)
    make, stage, path, kind = SOURCES[name]
    network = with_norms_that_matter(make())
    found = followed(network, stage)
    connector = found.student_connector
    images = torch.rand(2, *called_with(network, None).images.shape[1:])
    assert (found.teacher, type(connector)) == (path, kind)
    taps = xr.FrozenTeacher(network).features(images, [stage, path])
    with torch.no_grad():
        output = network(images)
        torch.testing.assert_close(connector.eval()(taps[stage]), getattr(output, "logits", output))
        connected = taps[path] if found.teacher_connector is None else found.teacher_connector(taps[path])
        torch.testing.assert_close(connected, getattr(output, "logits", output))
        assert torch.equal(connector.train()(taps[stage]), connector(taps[stage]))  # no dropout
    assert all(parameter.requires_grad for parameter in connector.parameters())
    assert not set(connector.parameters()) & set(network.parameters())


@pytest.mark.parametrize(
    ("make", "stage"),
    [
        (lambda: timm.create_model("resnet10t", features_only=True), "layer4"),
        (lambda: timm.create_model("deit_tiny_distilled_patch16_224", depth=3, img_size=64), "blocks.2"),
        (lambda: torchvision.models.densenet121(), "features.norm5"),
        (Twice, "net.layer4"),
        (lambda: with_a_factor(None), "layer4"),
        (lambda: with_a_factor(1.0), "layer4"),
        (resnet, "fc"),
        (with_a_pair, "net.fc"),
        (lambda: vit(global_pool="avg", img_size=(32, 64)), "blocks.2"),
    ],
    ids=[
        *("no scores", "two heads", "an activation that is no module", "a factor"),
        *("a module without its factor", "another factor", "the scores themselves", "a tuple"),
        "patches that make no square",
    ],
)
def test_what_cannot_be_followed(make: Callable[[], nn.Module], stage: str) -> None:
    assert followed(make(), stage) is None


def test_the_source_and_the_random_state_are_left_alone() -> None:
    network = resnet()
    state, before = torch.get_rng_state(), {name: tensor.clone() for name, tensor in network.state_dict().items()}
    followed(network, "layer4")
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_source_in_half_precision_has_a_copy_in_float32() -> None:
    network = with_norms_that_matter(with_two_layers()).to(torch.bfloat16)
    connector = followed(network, "layer4").student_connector
    assert {parameter.dtype for parameter in connector.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["ctd-cd", "kd", "lwf"])
def test_scores_that_are_a_map_are_flattened_for_the_loss(name: str) -> None:
    student, source = with_a_map_of_scores().eval(), with_a_map_of_scores()
    student.load_state_dict(source.state_dict())
    keep = xr.ctd(student, source, name, quiet=True)
    student(torch.rand(2, 3, 64, 64))
    assert sum(keep().values()).item() == pytest.approx(0, abs=1e-6)
