"""Parts that are frozen for a while: bitwise unchanged before the release, trained after it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from xtask_reg.finetune import Frozen, freeze

pytestmark = pytest.mark.filterwarnings("error")


class Student(nn.Module):
    """An encoder of two layers with batch norms, and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential()
        for name in ("layer1", "layer2"):
            self.encoder.add_module(name, nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
        self.decoder = nn.Linear(3, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.decoder(self.encoder(inputs))


def optimizer_of(student: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(student.parameters(), lr=0.1, weight_decay=0.1)


def changed(student: nn.Module, steps: Callable[[], Any]) -> set[str]:
    """The parts that ``steps()`` changed; each of them must have changed completely."""
    before = copy.deepcopy(student.state_dict())
    steps()
    same = {key: torch.equal(value, before[key]) for key, value in student.state_dict().items()}
    parts = {key: ".".join(key.split(".")[: 2 if key.startswith("encoder") else 1]) for key in same}
    found = {parts[key] for key, equal in same.items() if not equal}
    assert not any(same[key] for key in same if parts[key] in found)
    return found


def train(student: nn.Module, optimizer: torch.optim.Optimizer, set_to_none: bool = True) -> None:
    for _ in range(2):
        student.train()
        optimizer.zero_grad(set_to_none)
        student(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()


PARTS = {"encoder.layer1", "encoder.layer2", "decoder"}


def together(student: nn.Module, frozen: list[Frozen]) -> tuple[nn.Module, list[Frozen]]:
    return copy.deepcopy((student, frozen))


def pickled(student: nn.Module, frozen: list[Frozen]) -> tuple[nn.Module, list[Frozen]]:
    return pickle.loads(pickle.dumps((student, frozen)))


@pytest.mark.parametrize("copied", [lambda *both: both, together, pickled], ids=["itself", "deepcopy", "pickle"])
def test_lp_ft(copied) -> None:
    student = Student()
    student, (frozen,) = copied(student, [freeze(student, ["encoder"])])
    optimizer = optimizer_of(student)
    assert changed(student, lambda: train(student, optimizer)) == {"decoder"}
    frozen.release()
    assert changed(student, lambda: train(student, optimizer)) == PARTS
    assert not any(module._forward_pre_hooks for module in student.modules())


@pytest.mark.parametrize("copied", [lambda *both: both, together, pickled], ids=["itself", "deepcopy", "pickle"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("first", "second", "both_hold"),
    [
        (("", "encoder.layer1"), ("", "encoder.layer2"), set()),
        (("", "encoder"), ("", "encoder.layer1"), {"encoder.layer1"}),
        (("", "encoder.layer1"), ("", "encoder"), {"encoder.layer1"}),
        (("", "encoder"), ("encoder", "layer2"), {"encoder.layer2"}),
        (("encoder", "layer2"), ("", "encoder"), {"encoder.layer2"}),
        (("", "encoder"), ("", "encoder"), {"encoder.layer1", "encoder.layer2"}),
    ],
)
def test_what_two_hold_thaws_with_the_last(first, second, both_hold, order, copied) -> None:
    """Each is (the module on which ``freeze`` is called, the path)."""
    student = Student()
    student, frozen = copied(student, [freeze(student.get_submodule(at), [path]) for at, path in (first, second)])
    holds = [{p for p in PARTS if p.startswith(f"{at}.{path}".strip("."))} for at, path in (first, second)]
    optimizer = optimizer_of(student)
    assert changed(student, lambda: train(student, optimizer)) == PARTS - holds[0] - holds[1]
    frozen[order[0]].release()
    frozen[order[0]].release()
    assert changed(student, lambda: train(student, optimizer)) == PARTS - holds[order[1]]
    assert both_hold == holds[0] & holds[1]
    frozen[order[1]].release()
    assert changed(student, lambda: train(student, optimizer)) == PARTS


def test_gradual_unfreezing() -> None:
    student = Student()
    optimizer = optimizer_of(student)
    stages = [freeze(student, [path]) for path in ("encoder.layer1", "encoder.layer2")]
    for expected in ({"decoder"}, {"decoder", "encoder.layer2"}, PARTS):
        assert changed(student, lambda: train(student, optimizer)) == expected
        if stages:
            stages.pop().release()


def test_what_did_not_train_before_does_not_train_after() -> None:
    student = Student()
    student.encoder.layer1.requires_grad_(False)
    frozen = freeze(student, ["encoder"])
    frozen.release()
    assert {name for name, p in student.named_parameters() if not p.requires_grad} == {
        f"encoder.layer1.{name}" for name, _ in student.encoder.layer1.named_parameters()
    }


def test_but_trains_all_the_time() -> None:
    student = Student()
    frozen = freeze(student, ["encoder"], but=["encoder.layer2"])
    optimizer = optimizer_of(student)
    assert changed(student, lambda: train(student, optimizer)) == {"encoder.layer2", "decoder"}
    frozen.release()
    assert changed(student, lambda: train(student, optimizer)) == PARTS


@pytest.mark.parametrize("set_to_none", [True, False])
def test_freezing_in_the_middle(set_to_none: bool) -> None:
    """Adam's momentum, weight decay and a gradient that was left over do not move what is frozen."""
    student = Student()
    optimizer = optimizer_of(student)
    train(student, optimizer, set_to_none)
    freeze(student, ["encoder"])
    assert changed(student, optimizer.step) == {"decoder"}
    assert changed(student, lambda: train(student, optimizer, set_to_none)) == {"decoder"}


def test_replaced_parameters_thaw() -> None:
    student = Student()
    frozen = freeze(student, ["encoder"])
    student.load_state_dict(Student().state_dict(), assign=True)
    frozen.release()
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_tied_parameters_thaw_with_the_last() -> None:
    student = Student()
    student.encoder.layer2[0].weight = student.encoder.layer1[0].weight
    first, second = freeze(student, ["encoder.layer1"]), freeze(student, ["encoder.layer2"])
    first.release()
    assert not student.encoder.layer1[0].weight.requires_grad
    second.release()
    assert student.encoder.layer1[0].weight.requires_grad


def test_copies_are_independent() -> None:
    student = Student()
    frozen = freeze(student, ["encoder"])
    other, its_own = copy.deepcopy((student, frozen))
    frozen.release()
    assert not any(parameter.requires_grad for parameter in other.encoder.parameters())
    its_own.release()
    assert all(parameter.requires_grad for parameter in other.parameters())


def test_compiled_student() -> None:
    student = Student()
    optimizer, frozen = optimizer_of(student), freeze(student, ["encoder"])
    compiled = torch.compile(student, backend="aot_eager")
    assert changed(student, lambda: train(compiled, optimizer)) == {"decoder"}
    frozen.release()
    assert changed(student, lambda: train(compiled, optimizer)) == PARTS


def weight_norm(layer: nn.Module) -> nn.Module:
    return parametrizations.weight_norm(layer)


def orthogonal(layer: nn.Module) -> nn.Module:
    return parametrizations.orthogonal(layer)


@pytest.mark.parametrize("parametrize", [weight_norm, orthogonal])
@pytest.mark.parametrize("twice", [False, True])
def test_parametrized_in_between(parametrize: Callable[[nn.Module], nn.Module], twice: bool) -> None:
    student = Student()
    frozen = [freeze(student, ["encoder"]), *([freeze(student, ["encoder.layer1"])] if twice else [])]
    layer = parametrize(student.encoder.layer1[0])
    for each in frozen:
        assert not any(parameter.requires_grad for parameter in layer.parameters())
        each.release()
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_parameter_that_is_gone_is_named() -> None:
    student = Student()
    frozen = freeze(student, ["encoder.layer1"])
    layer = student.encoder.layer1[0]
    layer.low, layer.weight = nn.Parameter(layer.weight.detach(), requires_grad=False), None
    with pytest.warns(
        UserWarning, match=r"'weight' of a frozen Linear is no longer a parameter.*requires_grad_\(True\)"
    ):
        frozen.release()
    assert layer.bias.requires_grad
