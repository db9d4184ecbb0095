"""A regularizer in one line: its choices, its output and its arguments."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from segmentation_models_pytorch import Unet
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

import xtask_reg as xr


def resnet(outputs=4):
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=outputs)


def vit():
    sizes = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 4, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=4, **sizes)


FAMILIES = {
    "torchvision": (resnet, lambda: resnet(9), "layer4", "layer4"),
    "timm": (lambda: timm.create_model("convnext_atto"), lambda: timm.create_model("convnext_atto"), *["stages.3"] * 2),
    "smp": (lambda: Unet("resnet18", encoder_weights=None), torchvision.models.resnet18, "encoder.layer4", "layer4"),
    "vit": (vit, vit, "blocks.3 (ChannelsFirst)", "blocks.3 (ChannelsFirst)"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_finds_the_last_stage_and_says_so(family, capsys):
    student, source, own, other = FAMILIES[family]
    student, source = student(), source()
    keep = xr.ctd(student, source)
    said = f"ctd_ed: CosineAlignmentLoss, student {own}, teacher {other}, weight 0.002\n"
    assert capsys.readouterr().out == said
    student(torch.rand(2, 3, 64, 64))
    (value,) = keep().values()
    value.backward()
    assert next(student.parameters()).grad.abs().sum() > 0


def test_several_regularizers_a_line_each(capsys):
    keep = xr.ctd(resnet(), resnet(), "ctd-com + l2-sp + bss", weight=0.5)
    assert capsys.readouterr().out.splitlines() == [
        "ctd_cd: SoftmaxL2Loss, student layer4 (PooledClassifier), teacher fc, weight 0.5",
        "ctd_ed: CosineAlignmentLoss, student layer4, teacher layer4, weight 0.5",
        "l2_sp: L2SPPenalty, student as a whole, teacher as a whole, weight 0.5",
        "bss: BSSLoss, student layer4, weight 0.5",
    ]
    assert [*keep.terms] == ["ctd_cd", "ctd_ed", "l2_sp", "bss"]


def test_what_stands_before_the_scores_is_said(capsys):
    xr.ctd(vit(), vit(), "ctd-cd")
    said = "ctd_cd: SoftmaxL2Loss, student blocks.3 (LayerNorm, ClassToken, Linear), teacher head, weight 0.002\n"
    assert capsys.readouterr().out == said


def test_told_where_to_tap(capsys):
    student, source = resnet(), torchvision.models.resnet18()
    keep = xr.ctd(student, source, "ctd-ed", stages={"layer2": "layer2.1"})
    assert "student layer2, teacher layer2.1," in capsys.readouterr().out
    images = torch.rand(2, 3, 64, 64)
    student.eval()(images)
    (value,) = keep().values()
    maps = [nn.Sequential(*list(network.eval().children())[:6])(images).flatten(1) for network in (student, source)]
    torch.testing.assert_close(value, 0.002 * (1 - nn.functional.cosine_similarity(*maps).mean()))


def test_each_of_the_stages_told():
    keep = xr.ctd(resnet(), resnet(), "at", stages={"layer1": "layer2", "layer3": "layer4"}, quiet=True)
    assert [(term.student, term.teacher) for term in keep.terms.values()] == [
        ("layer1", "layer2"),
        ("layer3", "layer4"),
    ]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"layer5": "layer4"}, "there is no submodule 'layer5' in ResNet; the nearest are 'layer"),
        ({"layer4": "layer4.0.relu"}, "'layer4.0.relu' of ResNet cannot be tapped: called 2 times"),
    ],
)
def test_told_nonsense(stages, message):
    with pytest.raises(ValueError, match=message):
        xr.ctd(resnet(), resnet(), stages=stages)


@pytest.mark.parametrize("weight", [0, xr.Balanced(0)], ids=str)
def test_what_is_left_out_is_said(weight, capsys):
    keep = xr.ctd(resnet(), resnet(), weight=weight)
    assert capsys.readouterr().out == "ctd_ed: left out, its weight is 0\n"
    assert not keep.terms


def test_quiet(capsys):
    xr.ctd(resnet(), resnet(), quiet=True)
    assert not capsys.readouterr().out


def test_the_source_is_frozen():
    source = resnet()
    xr.ctd(resnet(), source, quiet=True)
    assert not any(parameter.requires_grad for parameter in source.parameters())


def test_an_adapter_is_kept():
    adapter = xr.InputAdapter(xr.InputConvention(), xr.InputConvention(value_range=255))
    assert xr.ctd(resnet(), xr.FrozenTeacher(resnet(), adapter), quiet=True).teacher.adapter is adapter


def test_without_a_teacher(capsys):
    student = resnet()
    keep = xr.ctd(student, None, "bss")
    assert capsys.readouterr().out == "bss: BSSLoss, student layer4, weight 0.001\n"
    student(torch.rand(2, 3, 64, 64))
    assert keep()["bss"] > 0
    with pytest.raises(ValueError, match="compares with a teacher"):
        xr.ctd(student, None, "bss + ctd-ed")


def test_called_with_something_else_than_a_tensor():
    """Only a teacher needs the images."""

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = resnet()

        def forward(self, batch):
            return self.net(batch["images"])

    student, source = Wrapped(), Wrapped()
    batch = {"images": torch.rand(2, 3, 64, 64)}
    penalty = xr.Term(xr.L2SPPenalty(), student="net", teacher="net", weight=1.0, name="sp")
    bss = xr.Term(xr.BSSLoss(), student="net.layer4", weight=1.0, name="bss")
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [penalty, bss])
    assert not keep.needs_images
    student(batch)
    assert all(value > 0 for value in keep().values())
    keep.set_weight("bss", 0)
    student(batch)
    assert keep()["bss"] == 0
    keep.remove()
    hint = xr.Term(xr.HintLoss(), student="net.layer4", teacher="layer4", weight=1.0, name="hint")
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source.net), [hint])
    assert keep.needs_images
    student(batch)
    with pytest.raises(ValueError, match="not called with a tensor"):
        keep()
    student(batch)
    assert keep(batch["images"])["hint"] > 0


FAILURES = {
    "the student itself": (lambda student, source: xr.ctd(source, source), "teacher's own tensor"),
    "a part of the student": (lambda student, source: xr.ctd(nn.Sequential(source), source), "teacher's own tensor"),
    "unknown name": (lambda student, source: xr.ctd(student, source, "nonsense"), "no regularizer 'nonsense'"),
    "unknown stage": (lambda student, source: xr.ctd(student, source, stages={"layer9": "layer4"}), "layer9"),
    "twice the same": (lambda student, source: xr.ctd(student, source, "ctd-ed + ctd-ed"), "ctd_ed"),
    "unknown stage of a monitor": (
        lambda student, source: xr.ctd(student, source, monitor=xr.Monitor(["layer9"])),
        "layer9",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failed_call_leaves_the_source_as_it_was(failure):
    call, match = FAILURES[failure]
    source = resnet().train()
    source.layer1.eval().requires_grad_(False)

    def state():
        return [each.training for each in source.modules()], [each.requires_grad for each in source.parameters()]

    before = state()
    with pytest.raises(ValueError, match=match):
        call(resnet(), source)
    assert state() == before
