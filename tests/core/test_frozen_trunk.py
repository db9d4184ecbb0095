"""A teacher that starts behind the student's frozen layers, which both share and which run once."""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import nn

import xtask_reg as xr


def test_values_and_gradients_are_those_of_the_whole_teacher(net, images, ed, cd) -> None:
    source = net(inplace=False).eval()
    student = copy.deepcopy(source).train()
    xr.freeze(student, ["layer1"])
    classifier = copy.deepcopy(source.fc)
    whole = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(copy.deepcopy(source)), [ed(), cd(source)])

    calls: list[None] = []
    source.layer1.register_forward_hook(lambda *unused: calls.append(None))
    rest = nn.Sequential(OrderedDict(layer2=source.layer2, relu=nn.ReLU(), fc=xr.PooledClassifier(source.fc)))
    connector = xr.retained_classifier(classifier)
    short = xr.CrossTaskRegularizer(None, xr.FrozenTeacher(rest), [ed(), cd(source, student_connector=connector)])

    found = []
    for _ in range(2):  # the first pass of a teacher is complete, the second ends at the tap
        torch.manual_seed(1)  # of the student's dropout
        student(images)
        wanted = whole()
        torch.manual_seed(1)
        with torch.no_grad():
            shared = student.layer1(images).relu()
        features = student.layer2(shared)
        found = short(shared, features={"layer2": features})
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0)
        weight = student.layer2[0].weight
        gradients = [torch.autograd.grad(sum(each.values()), weight)[0] for each in (wanted, found)]
        torch.testing.assert_close(*gradients, rtol=0, atol=0)
        assert gradients[0].norm() > 0
    assert not calls
