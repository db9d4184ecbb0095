"""Connectors that are in no optimizer are noticed, and no others."""

from __future__ import annotations

import copy
import warnings
from functools import partial

import pytest
import torch
from torch import nn

import xtask_reg as xr

WARNS = "connectors of term 'hint' do not train"


def networks():
    torch.manual_seed(0)
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3))
    return copy.deepcopy(source), source


def made(weight=0.1, connector=None):
    student, source = networks()
    connector = nn.Conv2d(6, 6, 1) if connector is None else connector
    term = xr.Term(xr.HintLoss(), student="2", teacher="2", weight=weight, name="hint", student_connector=connector)
    return student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])


def train(student, keep, parameters, steps=6, every=1, optimizer=torch.optim.Adam, add=True):
    """Make some steps; the optimizer steps every ``every`` of them."""
    optimizer = optimizer([*parameters], lr=1e-3)
    images = torch.rand(2, 3, 8, 8)
    for step in range(steps):
        keep.progress = step / steps
        loss = student(images).square().mean()
        terms = keep()
        (sum(terms.values(), loss) if add else loss).backward()
        if (step + 1) % every == 0:
            optimizer.step()
            optimizer.zero_grad()


OPTIMIZERS = [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("every", [1, 2])
def test_left_out_of_the_optimizer(optimizer, every):
    student, keep = made()
    with pytest.warns(UserWarning, match=WARNS) as caught:
        train(student, keep, student.parameters(), steps=10, every=every, optimizer=optimizer)
    assert len(caught) == 1


def test_its_loss_is_not_added():
    student, keep = made()
    with pytest.warns(UserWarning, match=WARNS):
        train(student, keep, [*student.parameters(), *keep.parameters()], add=False)


def fine():
    yield "trained", {}, lambda student, keep: [*student.parameters(), *keep.parameters()], {}
    yield "accumulated", {}, lambda student, keep: [*student.parameters(), *keep.parameters()], {"every": 4}
    yield "few steps", {}, lambda student, keep: student.parameters(), {"steps": 3}
    yield "nothing trains", {}, lambda student, keep: [nn.Parameter(torch.zeros(1))], {}
    yield "only the connector", {}, lambda student, keep: keep.parameters(), {}
    frozen = nn.Conv2d(6, 6, 1).requires_grad_(False)
    yield "frozen", {"connector": frozen}, lambda student, keep: student.parameters(), {}
    none = nn.Identity()
    yield "none", {"connector": none}, lambda student, keep: student.parameters(), {}
    later = xr.Steps([0.0, 0.1], at=[0.9])
    everything = lambda student, keep: [*student.parameters(), *keep.parameters()]  # noqa: E731
    yield "begins late", {"weight": later}, everything, {"steps": 20}


@pytest.mark.parametrize(("arguments", "parameters", "how"), [each[1:] for each in fine()], ids=[e[0] for e in fine()])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nothing_is_said(arguments, parameters, how, optimizer):
    student, keep = made(**copy.deepcopy(arguments))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(student, keep, parameters(student, keep), optimizer=optimizer, **how)


class OfData(torch.optim.SGD):
    """As some optimizers do, it writes to ``parameter.data``."""

    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad, alpha=-group["lr"])


class OfDataInFrontOfASoftmax(torch.optim.SGD):
    """It does not change the sum of a parameter, like gradients that add up to 0."""

    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                first, second = parameter.data.view(-1)[:2].tolist()
                parameter.data.view(-1)[:2] = torch.tensor([first + 0.25, second - 0.25])


PAST_THE_COUNT = {"data": OfData, "softmax": OfDataInFrontOfASoftmax, "fused": partial(torch.optim.Adam, fused=True)}


@pytest.mark.parametrize("own", PAST_THE_COUNT.values(), ids=PAST_THE_COUNT)
def test_connectors_whose_own_optimizer_goes_past_the_count(own):
    student, keep = made()
    for parameter in keep.parameters():
        nn.init.constant_(parameter, 0.5)
    optimizers = [torch.optim.Adam(student.parameters()), own(keep.parameters(), lr=1e-3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(6):
            (student(torch.rand(2, 3, 8, 8)).square().mean() + keep()["hint"]).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()


def test_each_term_by_itself():
    """One of two connectors is in the optimizer."""
    student, source = networks()
    terms = [
        xr.Term(
            xr.HintLoss(),
            student=path,
            teacher=path,
            weight=0.1,
            name=name,
            student_connector=nn.Conv2d(width, width, 1),
        )
        for name, path, width in (("first", "0", 4), ("hint", "2", 6))
    ]
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms)
    with pytest.warns(UserWarning, match=WARNS) as caught:
        train(student, keep, [*student.parameters(), *keep.terms["first"].parameters()])
    assert len(caught) == 1
