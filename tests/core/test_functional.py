"""Student and regularizer within ``torch.func``, against plain autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad

import xtask_reg as xr


@pytest.fixture
def model(net, ed, cd) -> xr.Regularized:
    student, source = net(2, norm=False), net(norm=False)
    distance = xr.Term(xr.L2SPPenalty(), student="layer1", teacher="layer1", weight=0.1, name="l2_sp")
    regularizer = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [ed(), cd(source), distance])
    return xr.Regularized(student, regularizer)


def test_gradient_of_a_functional_call(model, images) -> None:
    parameters = {name: parameter.detach() + 0.1 for name, parameter in model.named_parameters()}

    def total(parameters: dict[str, Tensor]) -> Tensor:
        output, losses = functional_call(model, parameters, (images,))
        return output.square().mean() + sum(losses.values())

    found = grad(total)(parameters)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(parameters[name])
    output, losses = model(images)
    (output.square().mean() + sum(losses.values())).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)
