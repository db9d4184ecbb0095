"""Terms by name for input that is not RGB of the usual size: taps, the teacher's input, and values."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.video.resnet import BasicBlock as Block3D
from torchvision.models.video.resnet import BasicStem, Conv3DSimple, VideoResNet

import xtask_reg as xr
from xtask_reg.measuring import linear_cka
from xtask_reg.shorthands import NAMES, SUMS, shorthand

CLASSES, POINTS, SIDE = 5, 4, 32
LAYERS = ["layer1", "layer2", "layer3", "layer4"]
timm_resnet = functools.partial(timm.create_model, "resnet10t")


def resnet(in_chans: int = 3, num_classes: int = CLASSES) -> nn.Module:
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=num_classes)
    net.conv1 = nn.Conv2d(in_chans, 64, 7, 2, 3, bias=False)
    return net


def vit(side: int = 64) -> nn.Module:
    sizes = {"img_size": side, "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": CLASSES}
    return timm.create_model("vit_tiny_patch16_224", **sizes)


class Pick(nn.Module):
    """Picks three of many channels."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, [4, 2, 0]]


class Repeat(nn.Module):
    """Grey to RGB."""

    def forward(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1)


BY_NAME: dict[str, Callable[..., xr.CrossTaskRegularizer]] = {
    "ctd": functools.partial(xr.ctd, quiet=True),
    "regularizer": lambda student, teacher, name, **options: xr.CrossTaskRegularizer(
        student, xr.FrozenTeacher(teacher), name, **options
    ),
}


@pytest.mark.parametrize("given", [True, False], ids=["images", "no images"])
@pytest.mark.parametrize("by_name", BY_NAME)
@pytest.mark.parametrize("make", [resnet, timm_resnet], ids=["torchvision", "timm"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_small_images_of_any_channels(channels, make, by_name, given):
    """The last map has a single cell: L_ED is the cosine of two vectors, L_CD uses the classifier alone."""
    student, source = make(in_chans=channels, num_classes=POINTS), make(in_chans=channels, num_classes=CLASSES)
    images = torch.rand(2, channels, SIDE, SIDE)
    keep = BY_NAME[by_name](student, source, "ctd-com", **({"images": images} if given else {}))
    student.eval()(images)
    losses = keep()
    own, target = (xr.FrozenTeacher(net).features(images, ["layer4"])["layer4"] for net in (student, source))
    assert own.shape == (2, 512, 1, 1)
    alike = F.cosine_similarity(own.flatten(1), target.flatten(1)).mean()
    torch.testing.assert_close(losses["ctd_ed"], 0.002 * (1 - alike))
    scores = [(source.fc(maps.flatten(1)) / 2).softmax(1) for maps in (own, target)]
    torch.testing.assert_close(losses["ctd_cd"], 0.002 * (scores[0] - scores[1]).square().sum(1).mean())
    assert sum(parameter.numel() for parameter in keep.parameters()) == CLASSES * 513


ADAPTED = {
    "many channels": (lambda: timm_resnet(in_chans=5), 5, resnet, Pick),
    "grey": (lambda: resnet(1), 1, resnet, Repeat),
    "another size": (
        lambda: vit(SIDE), 3, vit,
        lambda: xr.InputAdapter(xr.InputConvention(), xr.InputConvention(value_range=255, size=(64, 64))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("given", [True, False], ids=["images", "no images"])
@pytest.mark.parametrize("case", ADAPTED)
def test_the_teacher_is_looked_at_as_its_adapter_lets_it_see(case, given):
    make, channels, source, adapter = ADAPTED[case]
    student, source, adapter = make(), source(), adapter()
    images = torch.rand(4, channels, SIDE, SIDE)
    keep = xr.ctd(
        student,
        xr.FrozenTeacher(source, adapter),
        "rkd-distance + kd",
        weight=0.5,
        images=images if given else None,
        quiet=True,
    )
    student.eval()(images)
    losses = keep()
    term = keep.terms["rkd_distance"]
    assert term.student == term.teacher == ("blocks.2" if "size" in case else "layer4")
    own = xr.FrozenTeacher(student).features(images, [term.student])[term.student]
    target = xr.FrozenTeacher(source).features(adapter(images), [term.teacher])[term.teacher]
    torch.testing.assert_close(losses["rkd_distance"], 0.5 * term(own, target))
    logits = xr.FrozenTeacher(source)(adapter(images))
    torch.testing.assert_close(keep.terms["kd"].student_connector.eval()(target), logits)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (lambda: resnet(1), resnet, r"ResNet cannot be .* \(1, 1, 64, 64\): .*, FrozenTeacher\(source, adapter\)"),
        (
            lambda: resnet(5), lambda: xr.FrozenTeacher(resnet(), xr.InputAdapter(*[xr.InputConvention()] * 2)),
            r"InputAdapter cannot be called with images of shape \(1, 5, 64, 64\): .*expected \(images, 3, height",
        ),
        (lambda: nn.Sequential(resnet(), nn.Linear(9, 2)), resnet, r"give images=\.\.\. that it takes$"),
    ],
)  # fmt: skip
def test_what_a_network_does_not_take(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        xr.ctd(student(), teacher())


class Only(nn.Module):
    """Accepts images of one size only, and does not state it."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side, self.net = side, resnet(2)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (2, self.side, self.side)
        return self.net(images)


@pytest.mark.parametrize("by_name", BY_NAME)
def test_the_monitor_s_stages_are_found_with_the_images(by_name, recwarn):
    student, images = Only(48), torch.rand(4, 2, 48, 48)
    keep = BY_NAME[by_name](student, Only(48), "ctd-ed", images=images, monitor=xr.Monitor())
    student(images)
    keep()
    assert {name for name in keep.report if name.startswith("cka")} == {f"cka/net.{layer}" for layer in LAYERS}
    assert not recwarn.list


def test_the_monitor_s_stages_are_found_behind_the_adapter():
    student, images = resnet(5), torch.rand(4, 5, SIDE, SIDE)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(resnet(), Pick()), [], xr.Monitor())
    student(images)
    keep()
    assert {name for name in keep.report if name.startswith("cka")} == {f"cka/{layer}" for layer in LAYERS}


def test_a_monitor_without_them_says_what_to_do():
    with pytest.warns(UserWarning, match=r"compares no stages .*Only cannot be called .*give images=\.\.\."):
        xr.CrossTaskRegularizer(Only(48), xr.FrozenTeacher(Only(48)), [], xr.Monitor())


class TwoViews(nn.Module):
    """Takes two images of one person."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = resnet()

    def forward(self, front: Tensor, side: Tensor) -> Tensor:
        return self.encoder(torch.cat([front, side]))


def test_a_network_of_several_inputs_is_told_to_give_its_encoder():
    student, source, views = TwoViews(), resnet(), torch.rand(2, 2, 3, 64, 64)
    with pytest.raises(ValueError, match=r"TwoViews .* and None for side: .* give the part that takes images alone"):
        xr.ctd(student, source)
    keep = xr.ctd(student.encoder, source, weight=1.0, quiet=True)
    student.eval()(*views)
    loss = keep()["ctd_ed"]
    layers = (xr.FrozenTeacher(net).features(views.flatten(0, 1), ["layer4"]) for net in (student.encoder, source))
    own, target = (each["layer4"].flatten(1) for each in layers)
    torch.testing.assert_close(loss, 1 - F.cosine_similarity(own, target).mean())


def volumes() -> nn.Module:
    return VideoResNet(Block3D, [Conv3DSimple] * 4, [1, 1, 1, 1], BasicStem, num_classes=CLASSES)


@pytest.mark.parametrize("name", sorted({*NAMES, *SUMS} - {"local-similarity"}))
def test_volumes(name):
    student, teacher, images = volumes(), volumes(), torch.rand(3, 3, 8, 32, 32)
    terms = shorthand(student, teacher, name, weight=1.0, images=images)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(teacher), terms)
    student(images)
    losses = keep()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values()), losses
    sum(losses.values()).backward()
    assert next(student.parameters()).grad.count_nonzero() > 0


def halving(channels: int, to: int) -> nn.Module:
    return nn.Sequential(nn.Conv1d(channels, to, 3, 2, 1), nn.BatchNorm1d(to), nn.ReLU())


def signals(width: int = 4) -> nn.Module:
    sides = [1, *(width * 2**stage for stage in range(4))]
    encoder = nn.Sequential(*map(halving, sides, sides[1:]))
    return nn.Sequential(encoder, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(sides[-1], CLASSES))


class SignalTransformer(nn.Module):
    """A transformer on patches of eight samples."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv1d(1, 12, 8, 8)
        self.blocks = nn.Sequential(*[nn.TransformerEncoderLayer(12, 2, 16, 0.0, batch_first=True) for _ in range(3)])

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(self.patches(images).transpose(1, 2))


@pytest.mark.parametrize(("make", "channels"), [(signals, 1), (SignalTransformer, 2)])
def test_channels_of_signals_and_of_tokens_made_of_them(make, channels):
    student, source, images = make(), make(), torch.rand(3, 1, 64)
    (term,) = shorthand(student, source, "spatial-attention", weight=1.0, images=images)
    own, target = (xr.FrozenTeacher(net).features(images, [term.student])[term.student] for net in (student, source))
    energies = [F.normalize(features.square().sum(channels), dim=1) for features in (own, target)]
    torch.testing.assert_close(term(own, target), (energies[0] - energies[1]).square().sum(1).mean())


@pytest.mark.parametrize("name", sorted({*NAMES, *SUMS} - {"local-similarity"}))
def test_signals(name):
    student, source, images = signals(), signals(), torch.rand(3, 1, 64)
    keep = xr.ctd(student, source, name, weight=1.0, images=images, quiet=True)
    student(images)
    losses = keep()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values()), losses
    sum(losses.values()).backward()
    assert next(student.parameters()).grad.count_nonzero() > 0


@pytest.mark.parametrize("width", [4, 6])
def test_monitor_of_signals(width):
    """The same as for maps with one column."""
    student, source, images = signals().eval(), signals(width).eval(), torch.rand(3, 1, 64)
    monitor = xr.Monitor(["0.2", "0.3"], every=1)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [], monitor, images)
    student(images)
    keep()
    for last in (3, 4):
        maps = [net[0][:last](images).unsqueeze(-1) for net in (student, source)]
        assert keep.report[f"cka/0.{last - 1}"] == pytest.approx(linear_cka(*maps).item(), rel=1e-4)
