"""Small networks that the tests of the core share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr


class Net(nn.Module):
    """Two convolutions and a classifier: the source, and (with a landmark head) the student."""

    def __init__(self, outputs: int = 5, norm: bool = True, inplace: bool = True) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4) if norm else nn.Identity())
        self.layer2 = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.Dropout(0.5) if norm else nn.Identity())
        self.relu = nn.ReLU(inplace)
        self.fc = nn.Linear(6, outputs)

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.layer2(self.layer1(images).relu()))
        return self.fc(features.mean(dim=(2, 3)))


def ed_term(**changes: Any) -> xr.Term:
    arguments = {"student": "layer2", "teacher": "layer2", "weight": 0.5, "name": "ed", **changes}
    return xr.Term(arguments.pop("loss", xr.CosineAlignmentLoss()), **arguments)


def cd_term(source: Net, **changes: Any) -> xr.Term:
    arguments = {"student": "layer2", "teacher": "fc", "weight": 2.0, "name": "cd", **changes}
    arguments.setdefault("student_connector", xr.retained_classifier(source.fc))
    return xr.Term(xr.SoftmaxL2Loss(), **arguments)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def net() -> Callable[..., Net]:
    """Makes a network."""
    return Net


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 9, 11)


@pytest.fixture
def ed() -> Callable[..., xr.Term]:
    """Makes a term without connectors."""
    return ed_term


@pytest.fixture
def cd() -> Callable[..., xr.Term]:
    """Makes a term with a trainable copy of the source's classifier."""
    return cd_term


@pytest.fixture
def regularized() -> Callable[..., xr.Regularized]:
    """Makes a student with both terms in a ``Regularized``."""

    def make(student: nn.Module | None = None, source: Net | None = None) -> xr.Regularized:
        student, source = student or Net(2), source or Net()
        terms = [ed_term(), cd_term(source)]
        return xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms))

    return make


@pytest.fixture
def plain(regularized: Callable[..., xr.Regularized]) -> xr.Regularized:
    """Student and both terms, without dropout and batch norm: the same values in every mode."""
    return regularized(Net(2, norm=False), Net(norm=False))


@pytest.fixture
def expected() -> Callable[[xr.Regularized, Tensor], dict[str, float]]:
    """The terms of a ``Regularized``, written out with torch's own functions; its networks are walked by hand."""

    @torch.no_grad()
    def terms(model: xr.Regularized, images: Tensor) -> dict[str, float]:
        student, source = model.student, model.regularizer.teacher.network
        s, t = (each.layer2(each.layer1(images).relu()) for each in (student, source))
        logits = model.regularizer.terms["cd"].student_connector.fc(s.mean(dim=(2, 3)))
        p, q = (logits / 2).softmax(1), (source.fc(t.relu().mean(dim=(2, 3))) / 2).softmax(1)
        cosine = nn.functional.cosine_similarity(s.flatten(1), t.flatten(1)).mean()
        return {"ed": 0.5 * (1 - cosine).item(), "cd": 2 * nn.functional.mse_loss(p, q).item() * p.shape[1]}

    return terms


@pytest.fixture
def values() -> Callable[[dict[str, Tensor]], Any]:
    """Converts losses to a dict of numbers for approximate comparison."""
    return lambda losses: pytest.approx({name: loss.item() for name, loss in losses.items()}, rel=1e-5, abs=1e-7)


@pytest.fixture
def train() -> Callable[..., None]:
    """Takes steps of SGD on random data with a Regularized."""

    def steps(model: xr.Regularized, count: int = 3, lr: float = 0.1) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for _ in range(count):
            output, losses = model(torch.randn(2, 3, 9, 11))
            optimizer.zero_grad()
            (output.square().mean() + sum(losses.values())).backward()
            optimizer.step()

    return steps
