"""A student that returns its features itself, and terms that cannot act."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref

import pytest
import torch
from torch import nn

import xtask_reg as xr


def test_features_given_are_the_taps(plain, images, values) -> None:
    """The same numbers as with hooks, and no hook anywhere; so of a copy, and nothing is to be removed."""
    student = plain.student
    teacher = plain.regularizer.teacher
    hooked = plain(images)[1]
    plain.regularizer.remove()
    taps = {}
    handle = student.layer2.register_forward_hook(lambda m, a, output: taps.update(layer2=output.clone()))
    student(images)
    handle.remove()
    reg = xr.CrossTaskRegularizer(None, teacher, list(plain.regularizer.terms.values()))
    for each in (reg, copy.deepcopy(reg)):
        assert {name: loss.item() for name, loss in hooked.items()} == values(each(images, features=taps))
        each.remove()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())


def test_nothing_is_kept_of_a_hooked_student_either(net, ed) -> None:
    student = net(2)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(net()), [ed()])
    images = torch.randn(2, 3, 9, 11)
    student(images)
    keep(images, features={"layer2": torch.ones(2, 6, 4, 5)})
    watched = weakref.ref(images)
    del images
    gc.collect()
    assert watched() is None


def test_fullgraph(net, ed, images) -> None:
    """The compiled graph contains nothing of the library."""

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(2, norm=False)

        def forward(self, x):
            features = self.net.layer2(self.net.layer1(x).relu())
            return self.net.fc(self.net.relu(features.clone()).mean(dim=(2, 3))), features

    student, source = Features(), net()
    reg = xr.CrossTaskRegularizer(None, xr.FrozenTeacher(source), [ed()])
    compiled = torch.compile(student, fullgraph=True, backend="aot_eager")
    losses = []
    for model in (student, compiled):
        output, features = model(images)
        losses.append(reg(images, features={"layer2": features})["ed"])
        (output.sum() + losses[-1]).backward()
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (lambda x: (), "both are needed"),
        (lambda x: (x,), "both are needed"),
        (lambda x: (None, {"layer2": x}), "both are needed"),
        (lambda x: (x, {"layer1": x}), r"lacks the student's taps \['layer2'\].*\['layer1'\]"),
    ],
)
def test_without_student_all_must_be_given(net, ed, images, arguments, match) -> None:
    reg = xr.CrossTaskRegularizer(None, xr.FrozenTeacher(net()), [ed()])
    with pytest.raises(ValueError, match=match):
        reg(*arguments(images))
    with pytest.raises(RuntimeError, match="nothing to record"), reg.recording():
        pass


@pytest.mark.parametrize("kind", ["frozen", "detached"])
def test_warns_once_of_a_term_that_cannot_act(net, ed, images, kind) -> None:
    student = net(2)
    if kind == "frozen":
        xr.freeze(student, ["layer1", "layer2"])
    else:
        layer1 = student.layer1.forward
        student.layer1.forward = lambda x: layer1(x).detach()
        student.layer2.requires_grad_(False)
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(net()), [ed()])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        student(images)
        reg()  # validation has no gradient anywhere
    student(images)
    with pytest.warns(UserWarning, match="term 'ed' cannot act on the student: its tap 'layer2' carries no gradient"):
        reg()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student(images)
        reg()


def test_no_warning_of_terms_that_act(plain, images) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain(images)
