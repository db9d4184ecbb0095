"""Errors for arguments of the wrong kind name the argument and what to pass instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import xtask_reg as xr
from xtask_reg.sources import load_covering

IMAGES = torch.rand(2, 3, 64, 64)


def network() -> nn.Module:
    return torchvision.models.resnet18(num_classes=3)


def term(loss: Any = None, **changes: Any) -> xr.Term:
    arguments = {"student": "layer4", "teacher": "layer4", "weight": 1.0, "name": "ed", **changes}
    return xr.Term(xr.HintLoss() if loss is None else loss, **arguments)


def regularizer(teacher: Any, terms: Any = ()) -> xr.CrossTaskRegularizer:
    return xr.CrossTaskRegularizer(network(), teacher, terms)


def step(loss: nn.Module | None = None) -> xr.CrossTaskRegularizer:
    """A regularizer whose student was just called."""
    student = network()
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(network()), [term(loss)])
    student(IMAGES)
    return keep


def decay(parameters: Any, source: Any) -> xr.SelectiveProjectionDecay:
    return xr.SelectiveProjectionDecay(torch.optim.Adam(network().parameters()), parameters, source)


def absolute(features: Tensor) -> Tensor:
    return features.abs()


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "source not frozen": (lambda: regularizer(network(), [term()]), "ResNet; expected xr.FrozenTeacher"),
    "source not frozen, by name": (lambda: regularizer(network(), "ctd-ed"), "ResNet; expected xr.FrozenTeacher"),
    "sources not frozen": (lambda: regularizer({"a": network()}), "teacher 'a' is.* ResNet; expected xr.FrozenT"),
    "class of a teacher": (lambda: regularizer(xr.FrozenTeacher), "the class FrozenTeacher; expected"),
    "one term": (lambda: regularizer(xr.FrozenTeacher(network()), term()), "terms is.* Term; expected a list"),
    "list of names as terms": (lambda: regularizer(xr.FrozenTeacher(network()), ["at"]), r"'at'; .* joined by ' \+ '"),
    "losses as terms": (lambda: regularizer(None, [xr.BSSLoss()]), "terms is.* BSSLoss; expected a list of xr.Term"),
    "list of names": (lambda: xr.ctd(network(), network(), ["ctd-ed", "at"]), r"\['ctd-ed', 'at'\]; .* joined by ' \+"),
    "several teachers": (
        lambda: xr.ctd(network(), {"a": xr.FrozenTeacher(network())}),
        r"dict; expected one network .* xr.CrossTaskRegularizer\(student, teachers, terms\) takes several",
    ),
    "stage that is a string": (
        lambda: xr.ctd(network(), network(), stages="layer4"), r"'layer4' is a string; expected.* \['layer4'\]"
    ),
    "monitored string": (lambda: xr.Monitor(stages="layer4"), r"'layer4' is a string; expected.* \['layer4'\]"),
    "loss that is a function": (lambda: term(F.mse_loss), "loss of term 'ed' is the function mse_loss; expected a mod"),
    "loss that is a class": (lambda: term(xr.HintLoss), r"is the class HintLoss; expected a module.* xr.HintLoss\(\)"),
    "student_connector that is a function": (
        lambda: term(student_connector=absolute), "connector of term 'ed' is the function absolute; expected a module"
    ),
    "teacher_connector that is a function": (
        lambda: term(teacher_connector=lambda features: features), "of term 'ed' is the function <lambda>; expected a m"
    ),
    "convention as adapter": (
        lambda: xr.FrozenTeacher(network(), xr.InputConvention()),
        r"adapter is an object of the class InputConvention; expected.* xr.InputAdapter\(student=..., teacher=...\)",
    ),
    "convention as another adapter": (
        lambda: xr.FrozenTeacher(network()).use_adapter(xr.InputConvention()), "InputConvention; expected a module"
    ),
    "network that is a function": (
        lambda: xr.FrozenTeacher(torchvision.models.resnet18), "source network is the function resnet18; expected an nn"
    ),
    "teacher as student": (
        lambda: xr.ctd(xr.FrozenTeacher(network()), network()), "student is a FrozenTeacher; .* before the teacher"
    ),
    "no student": (lambda: xr.ctd(None, network()), "the student is None; expected the network that is trained"),
    "weights as student": (
        lambda: xr.CrossTaskRegularizer(network().state_dict(), None, []), "student is an .* OrderedDict; expected the"
    ),
    "images as monitor": (
        lambda: xr.CrossTaskRegularizer(network(), None, [], IMAGES), r"monitor is .* Tensor; expected xr.Monitor"
    ),
    "steps as monitor": (lambda: xr.ctd(network(), network(), monitor=50), r"monitor is 50; expected xr.Monitor"),
    "steps as stages": (lambda: xr.Monitor(50), "list of paths is 50; expected a list of dotted paths"),
    "module as path": (lambda: term(student=network().layer4), "student of term 'ed' is .* Sequential; expected the d"),
    "module as teacher's path": (lambda: term(teacher=network()), "teacher of term 'ed' is .* ResNet; expected the d"),
    "module to freeze": (lambda: xr.freeze(network(), [nn.ReLU()]), "a path is .* ReLU; expected the dotted path"),
    "path as paths": (
        lambda: xr.FrozenTeacher(network()).features(IMAGES, "layer4"), r"'layer4' is a string; expected.* \['layer4'\]"
    ),
    "folder as cache": (lambda: xr.FrozenTeacher(network(), cache="folder"), "cache is 'folder'; expected xr.Teach"),
    "list of teachers": (
        lambda: xr.FrozenTeachers([xr.FrozenTeacher(network())]), "teachers is .* list; expected .* in a dict by name"
    ),
    "two networks as one": (
        lambda: xr.Regularized(network(), network()), r"the regularizer is .* ResNet; expected xr.ctd\(student"
    ),
    "array to look at": (lambda: xr.find_stages(network(), IMAGES.numpy()), "images is .* ndarray; expected a tensor"),
    "batches to look at": (lambda: xr.ctd(network(), network(), images=[IMAGES]), "images is .* list; expected a te"),
    "array in a step": (lambda: step()(IMAGES.numpy()), "images is .* ndarray; expected a tensor"),
    "features as images": (lambda: step()({"layer4": IMAGES}), r"images is .* dict; .* features=\{path"),
    "batch without labels": (lambda: step().on({"image": IMAGES}), "images is .* dict; expected a tensor"),
    "batch to record": (lambda: step().recording({"image": IMAGES}).__enter__(), "images is .* dict; expected the"),
    "path as weights": (lambda: load_covering(network(), "a.pth"), r"is 'a.pth'; .*, load_weights\(path\)"),
    "network as weights": (lambda: load_covering(network(), network()), "is .* ResNet; expected tensors by name"),
    "networks to interpolate": (
        lambda: xr.interpolate(network(), network(), 0.5), r"argument source is .* ResNet; .*network.state_dict\(\)"
    ),
    "parameters without a dict": (
        lambda: decay(network().named_parameters(), {}), r"parameters is .* generator; .* dict\(student.named"
    ),
    "network as source": (lambda: decay({}, network()), r"argument source is .* ResNet; .*source.state_dict\(\)"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_error_names_what_was_given_and_what_to_give(wrong: str) -> None:
    call, message = WRONG[wrong]
    with pytest.raises(TypeError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_stages_of_one_name_may_be_a_list() -> None:
    keep = xr.ctd(network(), network(), "at", stages=["layer2", "layer4"], quiet=True)
    assert [(each.student, each.teacher) for each in keep.terms.values()] == [(s, s) for s in ("layer2", "layer4")]


class PerImage(nn.Module):
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (student - teacher).square().flatten(1).mean(dim=1)


class AsNumber(PerImage):
    def forward(self, student: Tensor, teacher: Tensor) -> float:
        return super().forward(student, teacher).mean().item()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (PerImage(), r"PerImage gives a tensor \(2,\); expected a tensor with one number"),
        (nn.MSELoss(reduction="none"), r"MSELoss gives a tensor \(2, 512, 2, 2\); expected"),
        (AsNumber(), r"what AsNumber gives is \d.*; expected a tensor with one number"),
    ],
)
def test_losses_that_give_no_scalar(loss: nn.Module, message: str) -> None:
    keep = step(loss)
    with pytest.raises(TypeError, match=message) as error:
        keep()
    assert "in term 'ed'" in error.value.__notes__[0]


def test_no_stages_are_an_error() -> None:
    with pytest.raises(ValueError, match="stages is empty: name at least one"):
        xr.ctd(network(), network(), stages=[])


def test_unknown_teacher_among_several() -> None:
    teachers = xr.FrozenTeachers({"faces": xr.FrozenTeacher(network())})
    with pytest.raises(ValueError, match=r"no teacher 'objects'; the teachers are \['faces'\]"):
        teachers.features(IMAGES, ["objects.layer4"])
