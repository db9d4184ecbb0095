"""L2-SP (Li, Grandvalet, Davoine 2018) against NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xtask_reg.losses.l2_sp import L2SPPenalty, l2_sp_penalty
from xtask_reg.losses.penalty import Penalty

SHAPES = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "scale": (), "empty": (0, 3), "fc.weight": (2, 5)}
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def parameters(seed: int, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        name: (scale * torch.randn(shape, dtype=torch.float64, generator=rng)).to(dtype).requires_grad_()
        for name, shape in SHAPES.items()
    }


def reference(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> float:
    pairs = [(student[name].detach().double().numpy(), teacher[name].detach().double().numpy()) for name in SHAPES]
    return 0.5 * sum(np.sum((one - other) ** 2) for one, other in pairs)


@pytest.mark.parametrize("loss", [l2_sp_penalty, L2SPPenalty()], ids=["function", "module"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_against_numpy(loss, scale: float) -> None:
    student, teacher = parameters(1, scale=scale), parameters(2)
    value = loss(student, dict(reversed(teacher.items())))
    assert value.shape == ()
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(reference(student, teacher), rel=1e-12)


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradient_is_the_difference(dtype: torch.dtype, differentiable: bool) -> None:
    student, teacher = parameters(1, dtype), parameters(2, dtype)
    value = l2_sp_penalty(student, teacher)
    weights = [*student.values(), *teacher.values()]
    gradients = torch.autograd.grad(2 * value, weights, create_graph=differentiable)
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert value.item() == pytest.approx(reference(student, teacher), rel=1e-5)
    for number, name in enumerate(SHAPES):
        twice = 2 * (student[name].detach().double() - teacher[name].detach().double())
        torch.testing.assert_close(gradients[number].detach(), twice.to(dtype))
        torch.testing.assert_close(gradients[len(SHAPES) + number].detach(), -twice.to(dtype))


FORMATS = {
    "one row": torch.randn(1, 5_000_000),
    "two rows": torch.randn(2, 2_500_000),
    "channels last": torch.randn(512, 512, 3, 3).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("weight", FORMATS.values(), ids=FORMATS)
def test_of_millions_of_numbers_it_keeps_its_digits_without_copies(weight: torch.Tensor) -> None:
    with torch.profiler.profile() as watched:
        value = l2_sp_penalty({"weight": weight}, {"weight": torch.zeros_like(weight)})
    assert value.item() == pytest.approx(weight.double().square().sum().item() / 2, rel=1e-6)
    assert "aten::clone" not in {event.key for event in watched.key_averages()}


@pytest.mark.parametrize("weight", FORMATS.values(), ids=FORMATS)
def test_large_parameters_compile_for_any_size(weight: torch.Tensor) -> None:
    torch.compiler.reset()
    compiled = torch.compile(l2_sp_penalty, backend="aot_eager", fullgraph=True, dynamic=True)
    given = {"weight": weight.clone().requires_grad_()}, {"weight": torch.zeros_like(weight)}
    torch.testing.assert_close(compiled(*given), l2_sp_penalty(*given))


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_gradients_are_the_numerical_ones(check) -> None:
    student, teacher = parameters(1), parameters(2)
    check(
        lambda *tensors: l2_sp_penalty(dict(zip(SHAPES, tensors)), dict(zip(SHAPES, tensors[len(SHAPES) :]))),
        [*student.values(), *teacher.values()],
    )


def test_a_network_does_not_need_a_kernel_for_each_parameter() -> None:
    """Both passes launch one operation for all tensors together."""
    student, teacher = (
        {str(number): torch.ones(3, requires_grad=own) for number in range(100)} for own in (True, False)
    )
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        torch.autograd.grad(l2_sp_penalty(student, teacher), list(student.values()))
    found = {event.key for event in profiler.key_averages()}
    assert {"aten::_foreach_sub", "aten::_foreach_norm", "aten::_foreach_mul"} <= found


def test_one_float64_parameter_is_not_lowered() -> None:
    student, teacher = parameters(1, torch.float16), parameters(2, torch.float16)
    teacher["fc.weight"] = teacher["fc.weight"].detach().double() + 1e-9
    value = l2_sp_penalty(student, teacher)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(reference(student, teacher), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    found = []
    for enabled in (False, True):
        student, teacher = parameters(1, dtype), parameters(2, dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value = l2_sp_penalty(student, teacher)
        value.backward()
        found.append([value, *(weight.grad for weight in student.values())])
    for without, inside in zip(*found, strict=True):
        assert without.dtype == inside.dtype
        assert torch.equal(without, inside)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_at_the_starting_point_it_is_zero(dtype: torch.dtype) -> None:
    student = parameters(1, dtype)
    value = l2_sp_penalty(student, {name: weight.detach().clone() for name, weight in student.items()})
    value.backward()
    assert value.item() == 0
    assert all(torch.equal(weight.grad, torch.zeros_like(weight)) for weight in student.values())


def test_largest_half_precision_is_finite() -> None:
    student = {"weight": torch.full((10,), 65504.0, dtype=torch.float16)}
    value = l2_sp_penalty(student, {"weight": -student["weight"]})
    assert value.item() == pytest.approx(0.5 * 10 * (2 * 65504.0) ** 2)


def test_compiled_gives_the_same() -> None:
    torch.compiler.reset()
    student, teacher = parameters(1), parameters(2)
    compiled = torch.compile(L2SPPenalty(), backend="aot_eager", fullgraph=True)
    value = compiled(student, teacher)
    value.backward()
    torch.testing.assert_close(value, l2_sp_penalty(student, teacher))
    torch.testing.assert_close(student["conv.bias"].grad, student["conv.bias"].detach() - teacher["conv.bias"].detach())


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_weight_decay_is_the_part_for_new_parameters(optimizer) -> None:
    """Beta / 2 ||w||^2 in the loss and weight_decay=beta: the same steps with SGD and Adam, others with AdamW."""
    by_loss, by_decay = nn.Linear(5, 3), nn.Linear(5, 3)
    by_decay.load_state_dict(by_loss.state_dict())
    features, beta = torch.randn(4, 5), 0.5
    steps = [(by_loss, 0.0), (by_decay, beta)]
    for head, decay in steps:
        made = optimizer(head.parameters(), lr=0.1, weight_decay=decay)
        for _ in range(3):
            origin = {name: torch.zeros_like(weight) for name, weight in head.named_parameters()}
            penalty = (beta - decay) * l2_sp_penalty(dict(head.named_parameters()), origin)
            made.zero_grad()
            (head(features).square().sum() + penalty).backward()
            made.step()
    same = torch.allclose(by_loss.weight, by_decay.weight, rtol=1e-5, atol=1e-6)
    assert same == (optimizer is not torch.optim.AdamW)


def test_it_pulls_a_network_back() -> None:
    """Plain gradient descent on it alone goes straight to the source: w <- w - lr (w - w0)."""
    source = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    student = copy.deepcopy(source)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    origin = {name: weight.detach() for name, weight in source.named_parameters()}
    first = {name: weight.detach().clone() for name, weight in student.named_parameters()}
    optimizer = torch.optim.SGD(student.parameters(), lr=0.25)
    for _ in range(2):
        optimizer.zero_grad()
        l2_sp_penalty(dict(student.named_parameters()), origin).backward()
        optimizer.step()
    for name, weight in student.named_parameters():
        torch.testing.assert_close(weight - origin[name], 0.75**2 * (first[name] - origin[name]), rtol=1e-4, atol=1e-6)


def test_without_parameters() -> None:
    with pytest.raises(ValueError, match="no parameters"):
        l2_sp_penalty({}, {})


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ("ab", "a", r"the teacher lacks 'b'$"),
        ("a", "ab", r"the student lacks 'b'$"),
        ("", "a", r"the student lacks 'a'$"),
        ("abx", "aby", r"the teacher lacks 'x'; the student lacks 'y'$"),
        ("abcdef", "a", r"the teacher lacks 'b', 'c', 'd' and 2 more$"),
    ],
)
def test_names_that_differ(student: str, teacher: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        l2_sp_penalty(*(dict.fromkeys(names, torch.ones(2)) for names in (student, teacher)))


@pytest.mark.parametrize("shape", [(4, 5), (4,), (1, 3), ()])
def test_shapes_that_differ(shape: tuple[int, ...]) -> None:
    """Broadcasting would hide the difference."""
    student = {"fc.bias": torch.ones(4), "fc.weight": torch.ones(4, 3)}
    with pytest.raises(ValueError, match="'fc.weight'") as error:
        l2_sp_penalty(student, {**student, "fc.weight": torch.ones(shape)})
    assert "(4, 3)" in str(error.value)
    assert str(shape) in str(error.value)


def test_is_a_penalty() -> None:
    assert isinstance(L2SPPenalty(), Penalty)
    assert not list(L2SPPenalty().parameters())
