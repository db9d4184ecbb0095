"""Two real processes (gloo, CPU); this file is also their program."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from shared_net import Net
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import WORLD_SIZE, found_by_each, work

import xtask_reg as xr

IMAGES = 8


def make(trainable: bool = True, seed: int = 0) -> xr.Regularized:
    torch.manual_seed(seed)
    student, source = Net(2), Net(5)
    connector = xr.retained_classifier(source.fc, trainable)
    regularizer = xr.CrossTaskRegularizer(
        student,
        xr.FrozenTeacher(source),
        [
            xr.Term(xr.CosineAlignmentLoss(), student="features", teacher="features", weight=0.7, name="ed"),
            xr.Term(
                xr.SoftmaxL2Loss(),
                student="features",
                teacher="fc",
                weight=30.0,
                name="cd",
                student_connector=connector,
            ),
        ],
    )
    return xr.Regularized(student, regularizer)


def batch(step: int = 0) -> Tensor:
    return torch.randn(IMAGES, 3, 9, 9, generator=torch.Generator().manual_seed(100 + step))


def total(output: Tensor, losses: dict[str, Tensor]) -> Tensor:
    return output.square().mean() + sum(losses.values())


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("module."): p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def one_backward(rank: int) -> Any:
    model = DistributedDataParallel(make())
    total(*model(batch().chunk(WORLD_SIZE)[rank])).backward()
    return gradients(model)


def on_images_without_labels(rank: int) -> Any:
    model = DistributedDataParallel(make())
    own, others = (batch(step).chunk(WORLD_SIZE)[rank] for step in (0, 1))
    total(*model(own, unlabelled=others)).backward()
    return gradients(model)


def student_alone_in_ddp(rank: int) -> Any:
    """Frozen connectors need no synchronisation: only the student is wrapped, the regularizer is called outside."""
    model = make(trainable=False)
    student = DistributedDataParallel(model.student)
    output = student(batch().chunk(WORLD_SIZE)[rank])
    total(output, model.regularizer()).backward()
    return gradients(model.student)


def five_steps(rank: int) -> Any:
    """The processes start with different students and connectors; both terms end on the way."""
    model = DistributedDataParallel(make(seed=rank))
    teacher = copy.deepcopy(make(seed=rank).regularizer.teacher.network.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    kept = {}
    for step in range(5):
        if step in (2, 4):
            model.module.regularizer.set_weight("cd" if step == 2 else "ed", 0)
        optimizer.zero_grad()
        total(*model(batch(step).chunk(WORLD_SIZE)[rank])).backward()
        optimizer.step()
        kept[f"connector after {step}"] = model.module.regularizer.state_dict()[
            "terms.cd.student_connector.fc.weight"
        ].clone()
    own = model.module.regularizer.teacher.network.state_dict()
    return {
        **kept,
        "parameters": dict(model.module.state_dict()),
        "names": [name for name, _ in model.named_parameters()],
        "buffers": [name for name, _ in model.named_buffers()],
        "reduced": len(model._module_parameters),
        "find_unused_parameters": model.find_unused_parameters,
        "teacher is unchanged": all(torch.equal(own[key], tensor) for key, tensor in teacher.items()),
        "teacher": own["fc.weight"],
    }


def outside_ddp(rank: int) -> Any:
    messages = {}
    for trainable in (True, False):
        model = make(trainable)
        model.student(batch())
        try:
            messages[trainable] = list(model.regularizer())
        except RuntimeError as error:
            messages[trainable] = str(error)
    model = make()
    for name in ("ed", "cd"):
        model.regularizer.set_weight(name, 0)
    try:
        model(batch())
    except RuntimeError as error:
        messages["ended"] = str(error)
    return messages


SCENARIOS: tuple[Callable[[int], Any], ...] = (
    one_backward,
    on_images_without_labels,
    student_alone_in_ddp,
    five_steps,
    outside_ddp,
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process found in each scenario."""
    return found_by_each(__file__, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(("scenario", "more"), [("one_backward", {}), ("on_images_without_labels", {"unlabelled": 1})])
def test_gradients_are_those_of_the_joined_batch(
    ranks: list[dict[str, Any]], scenario: str, more: dict[str, int]
) -> None:
    model = make()
    total(*model(batch(), **{name: batch(step) for name, step in more.items()})).backward()
    expected = gradients(model)
    assert "regularizer.terms.cd.student_connector.fc.weight" in expected
    for found in ranks:
        assert found[scenario].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[scenario][name], gradient, rtol=1e-5, atol=1e-6)


def test_frozen_connectors_may_stay_outside_ddp(ranks: list[dict[str, Any]]) -> None:
    model = make(trainable=False)
    total(*model(batch())).backward()
    for found in ranks:
        for name, gradient in gradients(model.student).items():
            torch.testing.assert_close(found["student_alone_in_ddp"][name], gradient, rtol=1e-5, atol=1e-6)
        assert found["outside_ddp"][False] == ["ed", "cd"]


def test_trainable_connectors_outside_ddp_raise(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        for message in (found["outside_ddp"][True], found["outside_ddp"]["ended"]):
            assert "trainable connectors" in message
            assert "xtask_reg.Regularized(student, regularizer) in DDP" in message


def test_connectors_are_equal_on_all_ranks(ranks: list[dict[str, Any]]) -> None:
    one, other = (found["five_steps"] for found in ranks)
    for key, tensor in one["parameters"].items():
        assert torch.equal(tensor, other["parameters"][key]), key
    assert not torch.equal(one["connector after 0"], one["connector after 1"])
    assert not one["find_unused_parameters"]


def test_teacher_is_not_in_ddp(ranks: list[dict[str, Any]]) -> None:
    for found in (each["five_steps"] for each in ranks):
        assert len(found["names"]) == found["reduced"] == len(list(Net(2).parameters())) + 2
        assert not any("teacher" in name for name in (*found["names"], *found["buffers"]))
        assert found["teacher is unchanged"]
    assert not torch.equal(*(found["five_steps"]["teacher"] for found in ranks))  # it was not broadcast either


if __name__ == "__main__":
    work(SCENARIOS)
