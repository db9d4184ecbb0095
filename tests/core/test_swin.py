"""Networks whose maps have their channels last, compared with the same maps permuted by hand."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

import xtask_reg as xr
from xtask_reg.measuring import linear_cka

SIDE, CLASSES = 64, 5
TIMM = {"img_size": SIDE, "window_size": 4, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "num_classes": CLASSES}
LAYERS, FEATURES = [f"layers.{number}" for number in range(4)], [f"features.{number}" for number in (1, 3, 5, 7)]


def of_timm(name: str, channels: int = 8, **options: object) -> nn.Module:
    return timm.create_model(name, **TIMM, embed_dim=channels, **options)


def of_torchvision(channels: int = 8, **parts: object) -> nn.Module:
    return SwinTransformer([4, 4], channels, [1] * 4, [1, 1, 2, 2], [4, 4], num_classes=CLASSES, **parts)


SECOND = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
SWINS: dict[str, tuple[Callable[..., nn.Module], list[str]]] = {
    "timm swin": (partial(of_timm, "swin_tiny_patch4_window7_224"), LAYERS),
    "timm swin v2": (partial(of_timm, "swinv2_tiny_window8_256"), LAYERS),
    "torchvision swin": (of_torchvision, FEATURES),
    "torchvision swin v2": (partial(of_torchvision, **SECOND), FEATURES),
}


def convnext(channels: int = 8) -> nn.Module:
    dims = [channels * 2**stage for stage in range(4)]
    return timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=dims, num_classes=CLASSES)


CONVNEXT = (convnext, [f"stages.{number}" for number in range(4)])


def made(name: str, **options: int) -> tuple[nn.Module, list[str]]:
    """A network with non-trivial norms, and without randomness in training."""
    make, paths = SWINS.get(name, CONVNEXT)
    network = make(**options)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.rand_like(parameter))
    return network.eval(), paths


def maps(network: nn.Module, paths: list[str], images: Tensor) -> list[Tensor]:
    """The outputs of the modules, as (B, C, H, W)."""
    given: list[Tensor] = []
    hooks = [
        network.get_submodule(path).register_forward_hook(lambda _, __, output: given.append(output)) for path in paths
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return [each if isinstance(network, timm.models.ConvNeXt) else each.permute(0, 3, 1, 2) for each in given]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


each_swin = pytest.mark.parametrize("name", SWINS)


@each_swin
@pytest.mark.parametrize("channels", [8, 16, 24])
def test_stages(name: str, channels: int) -> None:
    """With 16 channels, the first stage gives 16 x 16 x 16, where the shape does not show the order."""
    network, paths = made(name, channels=channels)
    assert xr.find_stages(network) == paths
    taps = xr.FrozenTeacher(network).features(torch.rand(2, 3, SIDE, SIDE), paths)
    sizes = [(2, SIDE // stride, SIDE // stride, channels * stride // 4) for stride in (4, 8, 16, 32)]
    assert [tuple(taps[path].shape) for path in paths] == sizes


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (64, 96), (224, 224), (100, 75), (75, 100), (40, 200)], ids=str)
@pytest.mark.parametrize("name", ["torchvision swin", "torchvision swin v2"])
def test_stages_in_images_of_any_size(name: str, size: tuple[int, int]) -> None:
    """Their maps are padded where the image does not fit."""
    network, paths = made(name)
    images = torch.rand(2, 3, *size)
    assert xr.find_stages(network, images) == paths
    terms = xr.shorthand(network, network, "at", images=images)
    assert all(isinstance(term.student_connector, xr.ChannelsFirst) for term in terms)


@pytest.mark.parametrize(
    ("make", "paths"),
    [(torchvision.models.swin_t, FEATURES), (torchvision.models.swin_v2_t, FEATURES)],
    ids=["swin_t", "swin_v2_t"],
)
def test_stages_of_those_of_torchvision(make: Callable[[], nn.Module], paths: list[str]) -> None:
    """timm's are in docs/timm.md."""
    assert xr.find_stages(make()) == paths


AT_LAST = {
    "ctd-ed": xr.CosineAlignmentLoss(),
    "hint": xr.HintLoss(),
    "spatial-attention": xr.AttentionTransferLoss(),
    "channel-attention": xr.ChannelAttentionLoss(),
    "cwd": xr.ChannelWiseLoss(),
    "pkd": xr.PearsonLoss(),
    "gram": xr.GramAnchoringLoss(),
    "local-similarity": xr.LocalSimilarityLoss(),
    "radio": xr.CosineSmoothL1Loss(),
    "rkd-distance": xr.RKDDistanceLoss(),
}
AT_EACH = {"at": xr.AttentionTransferLoss(), "delta": xr.DELTALoss()}
PAIRS = [(name, name) for name in SWINS]
PAIRS += [("timm swin", "convnext"), ("convnext", "torchvision swin v2"), ("torchvision swin", "timm swin v2")]
pairs = pytest.mark.parametrize(("student", "source"), PAIRS, ids=" <- ".join)


@pairs
def test_values_by_name(student: str, source: str) -> None:
    """Both have 8, 16, 32 and 64 channels: the maps may be compared whatever their order is."""
    (own, own_paths), (other, other_paths) = made(student), made(source)
    images = torch.rand(3, 3, SIDE, SIDE)
    both = list(zip(maps(own, own_paths, images), maps(other, other_paths, images), strict=True))
    expected = {name.replace("-", "_"): loss(*both[-1]) for name, loss in AT_LAST.items()}
    for name, loss in AT_EACH.items():
        expected |= {f"{name}{number}": loss(*pair) for number, pair in enumerate(both, start=1)}
    expected["bss"] = xr.BSSLoss()(both[-1][0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keep = xr.ctd(own, other, " + ".join([*AT_LAST, *AT_EACH, "bss"]), weight=1.0, quiet=True)
        own(images)
        found = keep()
    torch.testing.assert_close(found, expected)
    sum(found.values()).backward()
    assert all(parameter.grad is not None for parameter in own.get_submodule(own_paths[-1]).parameters())


@pytest.mark.parametrize(
    ("student", "source", "said"),
    [
        ("timm swin", "timm swin v2", "student layers.3 (ChannelsFirst), teacher layers.3 (ChannelsFirst)"),
        ("torchvision swin", "convnext", "student features.7 (ChannelsFirst), teacher stages.3"),
        ("convnext", "torchvision swin v2", "student stages.3, teacher features.7 (ChannelsFirst)"),
        ("convnext", "convnext", "student stages.3, teacher stages.3"),
    ],
)
def test_each_side_has_its_own_connector(student: str, source: str, said: str, capsys) -> None:
    xr.ctd(made(student)[0], made(source)[0])
    assert capsys.readouterr().out == f"ctd_ed: CosineAlignmentLoss, {said}, weight 0.002\n"


@pytest.mark.parametrize("name", [*SWINS, "convnext"])
@pytest.mark.parametrize("named", [False, True])
def test_what_fits_both_orders_has_that_of_its_neighbours(name: str, named: bool) -> None:
    network, paths = made(name, channels=16)
    stages = paths[:1] if named else None  # alone
    term = xr.shorthand(network, copy.deepcopy(network), "at", stages=stages)[0]
    expected = xr.ChannelsFirst if name in SWINS else nn.Identity
    assert isinstance(term.student_connector, expected)
    assert isinstance(term.teacher_connector, expected)


class Halved(nn.Module):
    """A convolution of stride 2 over maps, or volumes, with their channels last; the image has them first."""

    def __init__(self, layer: type[nn.Module], channels: int, out: int) -> None:
        super().__init__()
        self.conv = layer(channels, out, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if x.shape[1] == 3 else x.movedim(-1, 1)).movedim(1, -1)


def halved(layer: type[nn.Module], *channels: int) -> nn.Module:
    return nn.Sequential(*(Halved(layer, *each) for each in zip((3, *channels), channels)))


@pytest.mark.parametrize(
    ("layer", "channels", "turned"),
    [
        (nn.Conv2d, (4, 8, 16, 32, 64), True),
        (nn.Conv2d, (6, 6, 6, 6, 6), True),
        (nn.Conv3d, (4, 8, 16, 32, 64), True),
        (nn.Conv2d, (32, 16, 8, 4, 2), False),  # 32 x 32 x 32, 16 x 16 x 16, ...: nothing shows it
    ],
)
def test_any_network(layer: type[nn.Module], channels: tuple[int, ...], turned: bool) -> None:
    student, source = halved(layer, *channels), halved(layer, *channels)
    assert xr.find_stages(student) == ["1", "2", "3", "4"]
    keep = xr.ctd(student, source, "gram", weight=1.0, quiet=True)
    images = torch.rand(2, 3, *[SIDE] * (2 if layer is nn.Conv2d else 3))
    both = [network(images).movedim(-1, 1) if turned else network(images) for network in (student, source)]
    torch.testing.assert_close(keep()["gram"], xr.GramAnchoringLoss()(*both))


def scores(network: nn.Module, features: Tensor) -> Tensor:
    """A network's class scores for its last map (B, C, H, W)."""
    if isinstance(network, timm.models.ConvNeXt):
        return network.head(features)
    pooled = network.norm(features.permute(0, 2, 3, 1)).mean((1, 2))
    return network.head(pooled) if isinstance(network, SwinTransformer) else network.head.fc(pooled)


@pairs
def test_the_source_s_class_scores(student: str, source: str) -> None:
    (own, own_paths), (other, _) = made(student), made(source)
    keep = xr.ctd(own, other, "ctd-cd + kd + lwf", weight=1.0, quiet=True)
    images = torch.rand(3, 3, SIDE, SIDE)
    *_, last = maps(own, own_paths, images)
    found = keep()
    for name, loss in {"ctd_cd": xr.SoftmaxL2Loss(), "kd": xr.KDLoss(), "lwf": xr.LwFLoss()}.items():
        torch.testing.assert_close(found[name], loss(scores(other, last), other(images)))
    assert found["ctd_cd"] > 0
    assert len(list(keep.parameters())) == 3 * (4 if source in SWINS else len(list(other.head.parameters())))


@pairs
@pytest.mark.parametrize("named", [False, True])
def test_the_monitor_compares_the_same_maps(student: str, source: str, named: bool) -> None:
    (own, own_paths), (other, other_paths) = made(student), made(source)
    stages = dict(zip(own_paths, other_paths)) if named else None
    keep = xr.CrossTaskRegularizer(own, xr.FrozenTeacher(other), [], xr.Monitor(stages, every=1))
    images = torch.rand(3, 3, SIDE, SIDE)
    expected = {}
    for path, x, y in zip(own_paths, maps(own, own_paths, images), maps(other, other_paths, images), strict=True):
        expected[f"cosine/{path}"] = F.cosine_similarity(x.flatten(1), y.flatten(1)).mean().item()
        expected[f"cka/{path}"] = linear_cka(x, y).item()
    keep()
    assert keep.report == pytest.approx(expected, rel=1e-4)


def test_a_monitor_of_networks_that_cannot_be_looked_at() -> None:
    """Stages that are named are then compared as they are."""

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = convnext()

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return self.net(batch["images"])

    student, source, images = Wrapped(), convnext(), torch.rand(2, 3, SIDE, SIDE)
    monitor = xr.Monitor({"net.stages.3": "stages.3"}, every=1)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [], monitor)
    student({"images": images})
    keep(images)
    assert keep.report.keys() == {"cosine/net.stages.3", "cka/net.stages.3"}
