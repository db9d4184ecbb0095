"""Layer-wise learning rates: each parameter once, with the rate of its depth."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import nn

from xtask_reg.finetune import freeze, layerwise_lr

STAGES = [["conv1", "bn1"], "layer1", "layer2", "layer3", "layer4"]


def rates(groups) -> dict[nn.Parameter, float]:
    return {parameter: group["lr"] for group in groups for parameter in group["params"]}


def test_rate_of_each_parameter() -> None:
    model = torchvision.models.resnet18()
    groups = layerwise_lr(model, STAGES, 0.1, 0.5)
    found = rates(groups)
    power = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1, "fc": 0}
    for name, parameter in model.named_parameters():
        assert found[parameter] == pytest.approx(0.1 * 0.5 ** power[name.partition(".")[0]]), name
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters())) == len(found)
    assert [group["name"] for group in groups] == ["conv1+bn1", "layer1", "layer2", "layer3", "layer4", "head"]


def test_steps_of_plain_sgd() -> None:
    """A step of plain SGD is the gradient times the rate."""
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    optimizer = torch.optim.SGD(layerwise_lr(model, ["0", "1"], 0.1, 0.5), lr=123.0)
    before = [layer.weight.detach().clone() for layer in model]
    model(torch.randn(4, 2)).square().sum().backward()
    optimizer.step()
    for layer, weight, rate in zip(model, before, (0.025, 0.05, 0.1)):
        torch.testing.assert_close(weight - layer.weight, rate * layer.weight.grad, rtol=1e-4, atol=1e-6)


def test_frozen_parameters_are_kept() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    freeze(model, ["0"])
    assert set(rates(layerwise_lr(model, ["0", "1"], 0.1, 0.5))) == set(model.parameters())


def test_tied_parameter_is_the_stage_s() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    model[2].weight = model[1].weight
    groups = layerwise_lr(model, ["0", "1"], 0.1, 0.5)
    assert len(groups[-1]["params"]) == 1
    torch.optim.Adam(groups)


@pytest.mark.parametrize("decay", [1, 1.0])
def test_no_decay(decay) -> None:
    model = torchvision.models.resnet18()
    assert set(rates(layerwise_lr(model, STAGES, 0.1, decay)).values()) == {0.1}


@pytest.mark.parametrize(
    ("stages", "lr", "decay", "error", "match"),
    [
        ("layer1", 0.1, 0.5, TypeError, r"\['layer1'\]"),
        (["layer5"], 0.1, 0.5, ValueError, "no submodule 'layer5'.*'layer4'"),
        (["layer1", "layer1.0"], 0.1, 0.5, ValueError, r"'layer1.0' shares parameters with \['layer1'\]"),
        (["layer1.0", "layer1"], 0.1, 0.5, ValueError, r"'layer1' shares parameters with \['layer1.0'\]"),
        (["layer1", "layer1"], 0.1, 0.5, ValueError, "shares parameters"),
        (["layer1"], 0.1, 0, ValueError, r"decay=0 in \(0, 1\]"),
        (["layer1"], 0.1, 1.1, ValueError, "decay=1.1"),
        (["layer1"], 0.1, math.nan, ValueError, "decay=nan"),
        (["layer1"], 0, 0.5, ValueError, "lr=0 must be positive"),
        (["layer1"], math.inf, 0.5, ValueError, "lr=inf"),
    ],
)
def test_bad_input(stages, lr, decay, error, match) -> None:
    with pytest.raises(error, match=match):
        layerwise_lr(torchvision.models.resnet18(), stages, lr, decay)
