"""Tokens and maps whose channels are last: a warning if the loss depends on the order, and none otherwise."""

from __future__ import annotations

import copy
import warnings

import pytest
import timm
import torch
from said import said
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

import xtask_reg as xr


def vit() -> nn.Module:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 4}
    return timm.create_model("vit_tiny_patch16_224", **sizes)


def swin() -> nn.Module:
    sizes = {"img_size": 56, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "num_classes": 4}
    return timm.create_model("swin_tiny_patch4_window7_224", **sizes)


def convnext() -> nn.Module:
    """It ends in layers over the last dimension as well, but gives (B, C, H, W)."""
    return timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=4)


def resnet() -> nn.Module:
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)


NETWORKS = {"vit": (vit, 32, "blocks.2"), "swin": (swin, 56, "layers.1"), "convnext": (convnext, 64, "stages.3")}
NETWORKS["resnet"] = (resnet, 64, "layer4")
LOCATION = xr.CosineAlignmentLoss(over="location")


def warned(network: str, loss: nn.Module, connector: nn.Module | None = None) -> list[str]:
    """The warnings where the student starts as its source."""
    make, side, path = NETWORKS[network]
    torch.manual_seed(0)
    student = make()
    connectors = {"student_connector": connector, "teacher_connector": connector}
    term = xr.Term(loss, student=path, teacher=path, weight=1.0, name="term", **connectors)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(copy.deepcopy(student)), [term])
    return said("channels last", keep, student, torch.rand(2, 3, side, side))


@pytest.mark.parametrize(
    ("network", "advice"), [("vit", "ChannelsFirst(), xr.TokensToMap"), ("swin", "ChannelsFirst() on both")]
)
@pytest.mark.parametrize("loss", [LOCATION, xr.CosineAlignmentLoss(over="pooled"), xr.GramAnchoringLoss()], ids=repr)
def test_it_warns_once(network: str, advice: str, loss: nn.Module) -> None:
    (message,) = warned(network, loss)
    assert advice in message
    assert f"'term': '{NETWORKS[network][2]}' gives (2, " in message


@pytest.mark.parametrize(
    ("network", "loss", "connector"),
    [
        ("vit", xr.CosineAlignmentLoss(), None),
        ("vit", xr.HintLoss(), None),
        ("vit", LOCATION, xr.ChannelsFirst()),
        ("vit", LOCATION, xr.TokensToMap()),
        ("swin", xr.CosineAlignmentLoss(), None),
        ("swin", LOCATION, xr.ChannelsFirst()),
        ("convnext", LOCATION, None),
        ("resnet", LOCATION, None),
    ],
    ids=str,
)
def test_it_does_not(network: str, loss: nn.Module, connector: nn.Module | None) -> None:
    assert not warned(network, loss, connector)


@pytest.mark.parametrize("by_name", [False, True])
def test_of_the_student_alone(by_name: bool) -> None:
    """BSS averages over locations; by name it is given the tokens as such."""
    student = vit()
    term = xr.Term(xr.BSSLoss(), student="blocks.2", weight=1.0, name="bss")
    keep = xr.CrossTaskRegularizer(student, None, "bss" if by_name else [term])
    assert len(said("channels last", keep, student, torch.rand(2, 3, 32, 32))) == (0 if by_name else 1)


class Centred(nn.Module):
    """A loss with a state and random numbers: it compares some channels, minus a running centre."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(6))

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        self.centre.mul_(0.9).add_(teacher.mean(dim=(0, 1)), alpha=0.1)
        chosen = torch.randperm(6)[:2]
        return (student - teacher + self.centre)[..., chosen].square().mean()


@pytest.mark.parametrize("within_autocast", [False, True])
def test_it_leaves_no_trace(within_autocast: bool) -> None:
    student, source = nn.Sequential(nn.Linear(5, 6)), nn.Sequential(nn.Linear(5, 6))
    loss = Centred()
    keep = xr.CrossTaskRegularizer(
        student, xr.FrozenTeacher(source), [xr.Term(loss, student="0", teacher="0", weight=1.0, name="term")]
    )
    images = torch.rand(2, 3, 5)
    with torch.autocast("cpu", enabled=within_autocast):
        student(images)
        torch.manual_seed(3)
        keep()
        drawn = torch.rand(1)
        expected = 0.1 * source(images).float().mean(dim=(0, 1))
    torch.manual_seed(3)
    torch.randperm(6)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.allclose(loss.centre, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("side", ["student_connector", "teacher_connector"])
def test_features_with_a_connector_are_not_looked_at(side: str) -> None:
    student, source = nn.Sequential(nn.Linear(5, 6)), nn.Sequential(nn.Linear(5, 6))
    norm = nn.BatchNorm1d(3)
    term = xr.Term(LOCATION, student="0", teacher="0", weight=1.0, name="term", **{side: norm})
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student(torch.rand(2, 3, 5))
        keep()
    assert norm.num_batches_tracked == 1
