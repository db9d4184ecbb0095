"""A small residual network with batch norm, dropout and in-place activations, and the expected values of its terms."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr

SEED = 7


class Block(nn.Module):
    """A residual block with an in-place sum and no final activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features)))))
        out += self.downsample(features)
        return out


class ResNet(nn.Module):
    """Its in-place ``relu`` is used twice: after ``bn1`` and after ``layer2``."""

    def __init__(self, outputs: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Block(4, 6))
        self.dropout = nn.Dropout(0.3)
        self.layer2 = nn.Sequential(Block(6, 8))
        self.fc = nn.Linear(8, outputs)

    def features(self, images: Tensor) -> Tensor:
        """The output of ``layer2``."""
        return self.layer2(self.dropout(self.layer1(self.relu(self.bn1(self.conv1(images))))))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.relu(self.features(images)).mean(dim=(2, 3)))


def make_terms(source: ResNet) -> list[xr.Term]:
    return [
        xr.Term(xr.CosineAlignmentLoss(), student="layer2", teacher="layer2", weight=0.5, name="ed"),
        xr.Term(
            xr.SoftmaxL2Loss(),
            student="layer2",
            teacher="fc",
            weight=3.0,
            name="cd",
            student_connector=xr.retained_classifier(source.fc),
        ),
    ]


def twin_of(network: ResNet) -> ResNet:
    """The same network, in the same mode, without hooks."""
    twin = ResNet(network.fc.out_features).to(network.fc.weight.device)
    twin.load_state_dict(network.state_dict())
    for own, other in zip(twin.modules(), network.modules(), strict=True):
        own.training = other.training
    return twin


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def resnet() -> Callable[..., ResNet]:
    """Makes a network."""
    return ResNet


@pytest.fixture
def terms() -> Callable[[ResNet], list[xr.Term]]:
    """Makes both terms for a source; the second has a connector that trains."""
    return make_terms


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 16, 12)


@pytest.fixture
def model() -> xr.Regularized:
    """A student in training mode, with both terms."""
    student, source = ResNet(2), ResNet()
    regularizer = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), make_terms(source))
    return xr.Regularized(student, regularizer).train()


@pytest.fixture
def seeded() -> Callable[..., Any]:
    """Calls something with the random numbers, and so the dropout, that ``expected`` assumes."""

    def call(function: Callable[..., Any], *args: Any) -> Any:
        torch.manual_seed(SEED)
        return function(*args)

    return call


@pytest.fixture
def twin() -> Callable[[ResNet], ResNet]:
    """Makes the same network, in the same mode, without hooks."""
    return twin_of


def by_hand(model: xr.Regularized, images: Tensor) -> tuple[nn.ModuleDict, Tensor, dict[str, Tensor]]:
    """Output and terms by torch's own functions, and the twins of student and connector that they depend on."""
    student, source = twin_of(model.student), twin_of(model.regularizer.teacher.network).eval()
    connector = copy.deepcopy(model.regularizer.terms["cd"].student_connector.fc)
    torch.manual_seed(SEED)
    s = student.features(images)
    with torch.no_grad():
        t, q = source.features(images), (source(images) / 2).softmax(1)
    p = (connector(s.mean(dim=(2, 3))) / 2).softmax(1)
    cosine = nn.functional.cosine_similarity(s.flatten(1), t.flatten(1)).mean()
    output = student.fc(s.relu().mean(dim=(2, 3)))
    twins = nn.ModuleDict({"student": student, "connector": connector})
    return twins, output, {"ed": 0.5 * (1 - cosine), "cd": 3 * (p - q).square().sum(1).mean()}


@pytest.fixture
def expected() -> Callable[[xr.Regularized, Tensor], Any]:
    """The expected terms of a ``Regularized`` for some images, for comparison with a dict of numbers."""

    def values(model: xr.Regularized, images: Tensor) -> Any:
        terms = by_hand(model, images)[2]
        return pytest.approx({name: value.item() for name, value in terms.items()}, rel=1e-4, abs=1e-6)

    return values


@pytest.fixture
def total() -> Callable[[Tensor, dict[str, Tensor]], Tensor]:
    """The total loss in these tests."""
    return total_loss


def total_loss(output: Tensor, losses: dict[str, Tensor]) -> Tensor:
    return output.square().mean() + sum(losses.values())


@pytest.fixture
def expected_gradients() -> Callable[[xr.Regularized, Tensor], list[Tensor]]:
    """The expected gradients of student and connector for some images, in the order of ``parameters()``."""

    def gradients(model: xr.Regularized, images: Tensor) -> list[Tensor]:
        twins, output, terms = by_hand(model, images)
        return list(torch.autograd.grad(total_loss(output, terms), list(twins.parameters())))

    return gradients


@pytest.fixture
def numbers() -> Callable[[dict[str, Tensor]], dict[str, float]]:
    """Losses as numbers."""
    return lambda losses: {name: loss.item() for name, loss in losses.items()}


@pytest.fixture
def step() -> Callable[..., None]:
    """One step of SGD with a ``Regularized``."""

    def one(model: xr.Regularized, images: Tensor) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        total_loss(*model(images)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return one
