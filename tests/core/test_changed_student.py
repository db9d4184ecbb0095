"""A student that is changed after the regularizer was built: its parameters, its modules, its memory."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize

import xtask_reg as xr
from xtask_reg.held_student import HeldStudent


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.b = nn.Conv2d(4, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.b(self.norm(self.a(images)).relu())


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.difference = nn.Parameter(torch.zeros(4, 3, 3, 3))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.difference


def hint(**changes) -> xr.Term:
    return xr.Term(**{"loss": xr.HintLoss(), "student": "b", "teacher": "b", "weight": 1.0, "name": "t", **changes})


def near_source(source: nn.Module) -> Net:
    student = Net()
    student.load_state_dict(source.state_dict())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return student


def train(student: nn.Module, keep: xr.CrossTaskRegularizer, steps: int = 8, part: str = "") -> None:
    optimizer = torch.optim.SGD([each for name, each in student.named_parameters() if part in name], lr=0.01)
    dtype = next(student.parameters()).dtype
    for _ in range(steps):
        output = student(torch.rand(2, 3, 8, 8, dtype=dtype))
        (output.square().mean() + sum(keep().values())).backward()
        optimizer.step()
        optimizer.zero_grad()


def assigned(student: Net, keep: nn.Module) -> None:
    student.load_state_dict(copy.deepcopy(student.state_dict()), assign=True)


def low_rank(student: Net, keep: nn.Module) -> None:
    parametrize.register_parametrization(student.a, "weight", LowRank())


def overwritten(student: Net, keep: nn.Module) -> None:
    with parameters_overwritten():
        student.double()
        keep.double()


@contextmanager
def parameters_overwritten() -> Iterator[None]:
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


@pytest.mark.parametrize(("change", "part"), [(assigned, ""), (low_rank, "difference"), (overwritten, "")])
def test_balance_sees_the_parameters_of_now(change: Callable[[Net, nn.Module], None], part: str) -> None:
    source = Net()
    student = near_source(source)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [hint(weight=xr.Balanced(0.1))])
    change(student, keep)
    train(student, keep, part=part)
    assert keep.terms["t"].weighting.measurements >= 5
    assert keep.terms["t"].weight > 0


def test_connectors_within_the_student_are_none_of_its_parameters() -> None:
    """Frameworks' models own their regularizer: a change of its connectors does not count as one of the student."""
    student, source = Net(), Net()
    student.register_module("taken_away", None)
    terms = [hint(weight=xr.Balanced(0.1), student_connector=nn.Conv2d(4, 4, 1))]
    student.keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms)
    plain = list(Net().parameters())
    found = HeldStudent(student).parameters(student.keep)
    assert sorted(each.shape for each in found) == sorted(each.shape for each in plain)
    assert {id(each) for each in found} == {id(each) for name, each in student.named_parameters() if "keep" not in name}
    optimizer = torch.optim.SGD(student.keep.parameters(), lr=0.1)
    for _ in range(8):
        output = student(torch.rand(2, 3, 8, 8))
        (output.square().mean() + sum(student.keep().values())).backward()
        optimizer.step()
    assert student.keep.terms["t"].weighting.measurements == 1


def shared_by_assignment(student: Net, source: Net) -> None:
    student.load_state_dict(source.state_dict(), assign=True)


def shared_module(student: Net, source: Net) -> None:
    student.a = source.a


def shared_parameter(student: Net, source: Net) -> None:
    student.norm.bias = source.norm.bias


@pytest.mark.parametrize("share", [shared_by_assignment, shared_module, shared_parameter])
@pytest.mark.parametrize("after", [0, 2])
def test_student_that_comes_to_share_the_teacher_s_tensors(share: Callable[[Net, Net], None], after: int) -> None:
    source, student = Net(), Net()
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [hint()])
    train(student, keep, after)
    share(student, source)
    student(torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"of the student is the teacher's own tensor.*assign=True"):
        keep()


def test_sharing_is_looked_at_when_parameters_change_only(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr("xtask_reg.held_student.check_nothing_shared", lambda *a, **k: looked.append(1))
    student, source = Net(), Net()
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [hint()])
    train(student, keep, 3)
    assert len(looked) == 1
    student.a.bias = None
    train(student, keep, 3)
    assert len(looked) == 2


def in_sequential(student: Net) -> None:
    student.b = nn.Sequential(student.b, nn.BatchNorm2d(4))


def by_another(student: Net) -> None:
    student.b = nn.Conv2d(4, 4, 3)


def by_nothing(student: Net) -> None:
    student.c = student.b
    del student.b
    student.forward = lambda images: student.c(student.norm(student.a(images)))


@pytest.mark.parametrize("replace", [in_sequential, by_another, by_nothing])
@pytest.mark.parametrize("recording", [False, True])
def test_replaced_module(replace: Callable[[Net], None], recording: bool) -> None:
    student, images = Net(), torch.rand(2, 3, 8, 8)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(Net()), [hint()])
    replace(student)
    if recording:
        with keep.recording(images):
            student(images)
    else:
        student(images)
    with pytest.raises(xr.TapError, match=r"the student tap 'b' was replaced.*build the regularizer after"):
        keep()
    keep.remove()
    with pytest.raises(xr.TapError, match="did not fire"):
        keep()


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend="eager")


def moved_with_its_hooks(module: nn.Module) -> nn.Module:
    """As quantisation-aware training does when it swaps modules."""
    other = nn.Conv2d(4, 4, 3)
    for hook in module._forward_hooks.values():
        other.register_forward_hook(hook)
    return other


@pytest.mark.parametrize("wrap", [checkpoint_wrapper, compiled, moved_with_its_hooks])
def test_wrapped_module_is_none_that_was_replaced(wrap: Callable[[nn.Module], nn.Module]) -> None:
    source = Net()
    student = near_source(source).eval()
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [hint()])
    student.b = wrap(student.b)
    images = torch.rand(2, 3, 8, 8)
    difference = student(images) - source(images)
    assert keep()["t"].item() == pytest.approx(0.5 * difference.square().mean().item(), rel=1e-4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copy_looks_at_its_own_student(copied: Callable[[nn.Module], nn.Module]) -> None:
    student = Net()
    model = xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(Net()), [hint()]))
    model(torch.rand(2, 3, 8, 8))
    other = copied(model)
    in_sequential(student)
    other(torch.rand(2, 3, 8, 8))
    in_sequential(other.student)
    with pytest.raises(xr.TapError, match="was replaced"):
        other(torch.rand(2, 3, 8, 8))


L2_SP = {"loss": xr.L2SPPenalty(), "student": "", "teacher": ""}


def test_parameter_that_left_the_student() -> None:
    student, source = Net(), Net()
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [hint(**L2_SP)])
    parametrizations.weight_norm(student.a)
    student(torch.rand(2, 3, 8, 8))
    with pytest.raises(RuntimeError, match=r"the parameter 'a\.weight' in '' of the student.*weight_norm"):
        keep()


@pytest.mark.parametrize("path", ["", "a"])
def test_penalty_reads_the_modules_of_now(path: str) -> None:
    source = Net()
    student = copy.deepcopy(source)
    terms = [hint(loss=xr.L2SPPenalty(), student=path, teacher=path)]
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms)
    student.a = copy.deepcopy(student.a)
    nn.init.zeros_(student.a.bias)
    student(torch.rand(2, 3, 8, 8))
    assert keep()["t"].item() == pytest.approx(0.5 * source.a.bias.square().sum().item())


@pytest.mark.parametrize("path", ["", "a", "norm"])
def test_lazy_student(path: str) -> None:
    lazy = {"": nn.Sequential(nn.LazyConv2d(4, 3)), "a": nn.LazyConv2d(4, 3), "norm": nn.LazyBatchNorm2d(affine=False)}
    student = Net()
    setattr(student, path or "b", lazy[path])
    with pytest.raises(ValueError, match="Net has lazy parameters: call it once with your images"):
        xr.CrossTaskRegularizer(student, xr.FrozenTeacher(Net()), [hint()])
