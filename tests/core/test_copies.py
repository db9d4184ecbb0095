"""Copies, pickles and checkpoints of student, regularizer and both."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import pytest
import torch
from torch import nn

import xtask_reg as xr
from xtask_reg.plain_state import keep_out_of_state_dict


def saved_and_loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved_and_loaded,
}
each_copy = pytest.mark.parametrize("how", COPIES)
each_state = pytest.mark.parametrize("unconsumed", [False, True], ids=["between steps", "unconsumed step"])


@each_state
@each_copy
def test_copy_of_both_has_its_own_taps_and_trains(plain, images, expected, values, train, how, unconsumed) -> None:
    plain(images)
    if unconsumed:
        plain.student(images)
    copied = COPIES[how](plain)
    with pytest.raises(xr.TapError, match="did not fire"):
        copied.regularizer()
    if unconsumed:
        assert expected(plain, images) == values(plain.regularizer())
    train(plain, 3)
    assert expected(copied, images) == values(copied(images)[1])
    before = expected(plain, images)
    train(copied, 3)
    assert before == expected(plain, images) == values(plain(images)[1])
    assert expected(copied, images) == values(copied(images)[1]) != before
    copied.regularizer.remove()
    plain(images)


@each_copy
def test_copy_of_the_student_alone_keeps_nothing_of_its_calls(plain, images, how) -> None:
    """An averaged student that validates."""
    plain(images)
    copied = COPIES[how](plain.student).eval()

    def tensors() -> int:
        gc.collect()
        return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())

    before = tensors()
    with torch.no_grad():
        copied(images)
    assert tensors() <= before


@each_state
@each_copy
def test_copy_of_the_regularizer_alone(plain, images, expected, values, how, unconsumed) -> None:
    plain(images)
    if unconsumed:
        plain.student(images)
    copied = COPIES[how](plain.regularizer)
    assert copied.state_dict().keys() == plain.regularizer.state_dict().keys()
    plain.student(images)
    with pytest.raises(xr.TapError, match="did not fire"):
        copied()
    copied.remove()
    assert expected(plain, images) == values(plain.regularizer())


def test_averaged_model_keeps_no_step_of_the_original(plain, images, expected, values) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(plain)
    averaged(images)
    with pytest.raises(xr.TapError):
        plain.regularizer()
    assert expected(averaged.module, images) == values(averaged(images)[1])


class Owner(nn.Module):
    """A student that carries its regularizer, as the estimators of frameworks do."""

    def __init__(self, student: nn.Module, child: nn.Module | None) -> None:
        super().__init__()
        self.student = student
        self.norm = nn.BatchNorm1d(2)
        self.extra = child
        keep_out_of_state_dict(self, "extra")


@pytest.fixture
def make(net, cd):
    def owner(with_child: bool = True) -> Owner:
        student, source = net(2), net()
        child = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [cd(source)]) if with_child else None
        return Owner(student, child)

    return owner


WRAPS = {
    "alone": lambda owner: owner,
    "module.": lambda owner: nn.ModuleDict({"module": owner}),
    "nested": lambda owner: nn.Sequential(nn.ModuleDict({"a": owner, "other": nn.Linear(1, 1)})),
}


@pytest.mark.parametrize("copied", [None, *COPIES])
@pytest.mark.parametrize("wrap", WRAPS)
def test_state_dict_is_the_plain_one_and_loads_strictly_both_ways(make, wrap, copied) -> None:
    wrapped, plain = WRAPS[wrap](make()), WRAPS[wrap](make(False))
    wrapped = COPIES[copied](wrapped) if copied else wrapped
    assert set(wrapped.state_dict()) == set(plain.state_dict())
    assert any("student.layer1.0.weight" in key for key in wrapped.state_dict())
    child = [parameter.clone() for name, parameter in wrapped.named_parameters() if ".extra." in f".{name}"]
    assert len(child) == 2
    given = plain.state_dict()
    keys = list(given)
    wrapped.load_state_dict(given, strict=True)
    assert list(given) == keys
    for key, tensor in wrapped.state_dict().items():
        assert torch.equal(tensor, given[key])
    after = [parameter for name, parameter in wrapped.named_parameters() if ".extra." in f".{name}"]
    assert all(torch.equal(one, other) for one, other in zip(child, after, strict=True))
    plain.load_state_dict(wrapped.state_dict(), strict=True)


@pytest.mark.parametrize("wrap", WRAPS)
def test_missing_and_unexpected_keys_are_still_found(make, wrap) -> None:
    wrapped = WRAPS[wrap](make())
    state = wrapped.state_dict()
    missing = next(iter(state))
    state.pop(missing)
    unexpected = missing.replace("student", "nobody")
    state[unexpected] = torch.zeros(1)
    result = wrapped.load_state_dict(state, strict=False)
    assert result.missing_keys == [missing]
    assert result.unexpected_keys == [unexpected]
    with pytest.raises(RuntimeError, match="Missing"):
        wrapped.load_state_dict(state)


def test_neighbour_with_a_longer_name_stays(make) -> None:
    owner = make()
    owner.extra_head = nn.Linear(1, 1)
    assert "extra_head.weight" in owner.state_dict()


def test_left_out_child_is_still_optimized_and_saves_its_own_state(make) -> None:
    owner, other = make(), make()
    assert any(name.startswith("extra.") for name, _ in owner.named_parameters())
    own = owner.extra.state_dict()
    assert list(own) == ["terms.cd.student_connector.fc.weight", "terms.cd.student_connector.fc.bias"]
    other.extra.load_state_dict(own, strict=True)
    for key, tensor in other.extra.state_dict().items():
        assert torch.equal(tensor, own[key])


@pytest.mark.parametrize("assign", [True, False])
def test_connectors_of_a_regularized_resume(regularized, train, images, assign) -> None:
    one, other = regularized(), regularized()
    train(one, 2)
    other.load_state_dict(one.state_dict(), strict=True, assign=assign)
    assert not any("teacher" in key for key in one.state_dict())
    for key, tensor in other.state_dict().items():
        assert torch.equal(tensor, one.state_dict()[key])
