"""Balanced weights in two real processes (gloo, CPU); this file is also their program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from shared_net import Net
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import found_by_each, work

import xtask_reg as xr

STEPS = 12


def make(trainable: bool = True) -> xr.Regularized:
    torch.manual_seed(0)
    student, source = Net(2), Net(5)
    ed = {"teacher": "features", "weight": xr.Balanced(0.3, every=1)}
    cd = {"teacher": "fc", "weight": xr.Balanced(0.2, every=3)}
    cd["student_connector"] = xr.retained_classifier(source.fc, trainable)
    terms = [
        xr.Term(xr.CosineAlignmentLoss(), student="features", name="ed", **ed),
        xr.Term(xr.SoftmaxL2Loss(), student="features", name="cd", **cd),
    ]
    monitor = xr.Monitor(["features"], every=4)
    return xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms, monitor))


def batch(step: int) -> Tensor:
    """Two very different halves, neither of which has the gradients of the whole."""
    images = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(100 + step))
    return images * torch.tensor([0.2] * 4 + [3.0] * 4).view(-1, 1, 1, 1)


def train(model: nn.Module, regularizer: xr.CrossTaskRegularizer, part: slice, overflow: bool = False) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    found = []
    for step in range(STEPS):
        output, losses = model(batch(step)[part])
        found.append([term.weight for term in regularizer.terms.values()])
        optimizer.zero_grad()
        task = (output - 1).square().mean()
        scale = float("inf") if overflow and step == 2 else 1.0
        (scale * (task + sum(losses.values()))).backward()
        if step != 2:
            optimizer.step()
    return found


def half(rank: int) -> slice:
    return slice(4 * rank, 4 * rank + 4)


def weights(rank: int) -> Any:
    model = DistributedDataParallel(make())
    return train(model, model.module.regularizer, half(rank))


def make_penalty() -> xr.Regularized:
    torch.manual_seed(0)
    student, source = Net(2), Net(5)
    term = xr.Term(xr.L2SPPenalty(), student="", teacher="", weight=xr.Balanced(0.3, every=1), name="sp")
    return xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term]))


def weights_of_a_penalty(rank: int) -> Any:
    model = DistributedDataParallel(make_penalty())
    return train(model, model.module.regularizer, half(rank))


def overflow_on_one(rank: int) -> Any:
    model = DistributedDataParallel(make())
    found = train(model, model.module.regularizer, half(rank), overflow=rank == 1)
    return found, model.module.regularizer.terms["ed"].weighting.measurements


def validation_on_one(rank: int) -> Any:
    """A validation in the first process only, right after a measured step: it must not wait for the other."""
    model = DistributedDataParallel(make(trainable=False))
    own = model.module
    for step in range(STEPS):
        output, losses = model(batch(step)[half(rank)])
        (output.square().mean() + sum(losses.values())).backward()
        if rank == 0:
            own.state_dict()
            with torch.no_grad():
                own(batch(0))
    return [term.weight for term in own.regularizer.terms.values()]


SCENARIOS: tuple[Callable[[int], Any], ...] = (weights, weights_of_a_penalty, overflow_on_one, validation_on_one)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process found in each scenario."""
    return found_by_each(__file__, tmp_path_factory.mktemp("ranks"))


def test_weights_are_equal_and_those_of_the_joined_batch(ranks: list[dict[str, Any]]) -> None:
    model = make()
    expected = train(model, model.regularizer, slice(None))
    assert expected[6][0] > 0 < expected[6][1]  # the state of steps 2 and 3 counts once
    assert ranks[0]["weights"] == ranks[1]["weights"]
    for found, wanted in zip(ranks[0]["weights"], expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-3)
    for part in (half(0), half(1)):  # the test can tell the union from its halves
        model = make()
        assert train(model, model.regularizer, part)[6] != pytest.approx(expected[6], rel=0.05)


def test_weights_of_a_penalty_are_those_of_the_joined_batch(ranks: list[dict[str, Any]]) -> None:
    """At parameters the mean over the processes counts, which has a smaller norm than their own gradients."""
    model = make_penalty()
    expected = train(model, model.regularizer, slice(None))
    assert expected[6][0] > 0
    assert ranks[0]["weights_of_a_penalty"] == ranks[1]["weights_of_a_penalty"]
    for found, wanted in zip(ranks[0]["weights_of_a_penalty"], expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-3)


def test_overflow_in_one_process_is_left_out_in_all(ranks: list[dict[str, Any]]) -> None:
    (one, measured), (other, measured_too) = (found["overflow_on_one"] for found in ranks)
    assert one == other
    assert one[6][0] > 0 == one[5][0]
    assert measured == measured_too == STEPS - 2  # the last one waits for the next step


def test_validation_in_one_process_does_not_wait(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["validation_on_one"] == ranks[1]["validation_on_one"]


if __name__ == "__main__":
    work(SCENARIOS)
