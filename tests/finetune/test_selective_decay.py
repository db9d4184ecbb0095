"""Selective projection decay against loops in NumPy with the optimizers written out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xtask_reg.finetune import SelectiveProjectionDecay

STEPS = 12
SHAPES = {"weight": (4, 3), "bias": (4,)}
Arrays = dict[str, np.ndarray]


def start(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def gradients() -> list[Arrays]:
    """Gradients that change direction, so that steps with momentum go against them."""
    rng = np.random.default_rng(7)
    return [
        {name: np.sin(step / 2) + 0.3 * rng.normal(size=shape) for name, shape in SHAPES.items()}
        for step in range(STEPS)
    ]


def sgd(lr: float, momentum: float = 0.0) -> Callable[[np.ndarray, int, dict], np.ndarray]:
    def step(gradient: np.ndarray, number: int, memory: dict) -> np.ndarray:
        memory["v"] = momentum * memory["v"] + gradient if memory else gradient
        return -lr * memory["v"]

    return step


def adam(lr: float, b1: float = 0.9, b2: float = 0.999) -> Callable[[np.ndarray, int, dict], np.ndarray]:
    def step(gradient: np.ndarray, number: int, memory: dict) -> np.ndarray:
        memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * gradient
        memory["s"] = b2 * memory.get("s", 0) + (1 - b2) * gradient**2
        first, second = memory["m"] / (1 - b1**number), memory["s"] / (1 - b2**number)
        return -lr * first / (np.sqrt(second) + 1e-8)

    return step


def reference(student: Arrays, source: Arrays, step, weight: float) -> tuple[Arrays, int]:
    """The parameters after all steps, and how often a tensor was drawn back."""
    drawn, memory = 0, {name: {} for name in student}
    for number, gradient in enumerate(gradients(), start=1):
        for name, before in student.items():
            after = before + step(gradient[name], number, memory[name])
            if -np.sum(gradient[name] * (before - source[name])) < 0:
                new, old = (np.sqrt(np.sum((value - source[name]) ** 2)) for value in (after, before))
                ratio = min(max((new - old) / new, 0.0), 1.0)
                after = after - weight * ratio * (after - source[name])
                drawn += ratio > 0
            student = {**student, name: after}
    return student, drawn


def tensors(arrays: Arrays, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=dtype) for name, value in arrays.items()}


def run(optimizer, parameters: dict[str, Tensor], closures: bool = False) -> None:
    for gradient in gradients():

        def closure(gradient: Arrays = gradient) -> Tensor:
            for name, parameter in parameters.items():
                parameter.grad = torch.tensor(gradient[name], dtype=parameter.dtype)
            return torch.zeros(())

        if closures:
            for parameter in parameters.values():
                parameter.grad = None
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


OPTIMIZERS = {
    "SGD": (lambda p: torch.optim.SGD(p, lr=0.1), sgd(0.1)),
    "SGD with momentum": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), sgd(0.1, 0.9)),
    "Adam": (lambda p: torch.optim.Adam(p, lr=0.1), adam(0.1)),
    "Adam, foreach": (lambda p: torch.optim.Adam(p, lr=0.1, foreach=True), adam(0.1)),
    "Adam, fused": (lambda p: torch.optim.Adam(p, lr=0.1, fused=True), adam(0.1)),
}


@pytest.mark.parametrize("closures", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 2])
@pytest.mark.parametrize("same_start", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_reference(name: str, same_start: bool, weight: float, closures: bool) -> None:
    build, step = OPTIMIZERS[name]
    source = start(0)
    begin = source if same_start else start(1)
    parameters = {key: nn.Parameter(value) for key, value in tensors(begin, torch.float64).items()}
    optimizer = build(list(parameters.values()))
    SelectiveProjectionDecay(optimizer, parameters, tensors(source, torch.float64), weight)
    run(optimizer, parameters, closures)
    expected, drawn = reference(begin, source, step, weight)
    assert drawn
    for key, parameter in parameters.items():
        np.testing.assert_allclose(parameter.detach().numpy(), expected[key], rtol=1e-9)


def test_after_an_interrupted_step() -> None:
    """Nothing of what it remembered is left for the next."""
    ends = []
    for interrupted in (False, True):
        parameter = nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        SelectiveProjectionDecay(optimizer, {"p": parameter}, {"p": torch.zeros(2)})
        if interrupted:
            parameter.grad = torch.ones(2)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(optimizer, "_init_group", _interrupt)
                with pytest.raises(KeyboardInterrupt):
                    optimizer.step()
        with torch.no_grad():
            parameter.mul_(2)

        def closure(parameter: nn.Parameter = parameter) -> None:
            parameter.grad = 5 * torch.ones(2)  # 2 - 5 = -3, drawn back to -2

        optimizer.step(closure)
        ends.append(parameter.detach())
    assert [end.tolist() for end in ends] == [[-2.0] * 2] * 2


def _interrupt(*args: object) -> None:
    raise KeyboardInterrupt


def test_maximizing_is_minimizing_the_negative() -> None:
    ends = []
    for maximize in (False, True):
        parameters = {key: nn.Parameter(value) for key, value in tensors(start(1), torch.float64).items()}
        optimizer = torch.optim.Adam(list(parameters.values()), lr=0.1, maximize=maximize)
        SelectiveProjectionDecay(optimizer, parameters, tensors(start(0), torch.float64))
        for gradient in gradients():
            for name, parameter in parameters.items():
                parameter.grad = torch.tensor(-gradient[name] if maximize else gradient[name])
            optimizer.step()
        ends.append({name: parameter.detach() for name, parameter in parameters.items()})
    torch.testing.assert_close(*ends)


def test_float32_and_bfloat16() -> None:
    for dtype, rtol in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        parameters = {key: nn.Parameter(value) for key, value in tensors(start(1), dtype).items()}
        optimizer = torch.optim.SGD(list(parameters.values()), lr=0.1, momentum=0.9)
        SelectiveProjectionDecay(optimizer, parameters, tensors(start(0), dtype))
        run(optimizer, parameters)
        expected, _ = reference(start(1), start(0), sgd(0.1, 0.9), 1.0)
        for key, parameter in parameters.items():
            found = parameter.detach().double().numpy()
            assert np.linalg.norm(found - expected[key]) <= rtol * np.linalg.norm(expected[key])


def test_full_weight_returns_to_the_distance_before() -> None:
    parameters = {key: nn.Parameter(value) for key, value in tensors(start(1), torch.float64).items()}
    source = tensors(start(0), torch.float64)
    optimizer = torch.optim.SGD(list(parameters.values()), lr=0.1)
    SelectiveProjectionDecay(optimizer, parameters, source)
    distance = {key: (parameter.detach() - source[key]).norm() for key, parameter in parameters.items()}
    for key, parameter in parameters.items():
        parameter.grad = (parameter.detach() - source[key]) * 100  # far beyond the source
    optimizer.step()
    for key, parameter in parameters.items():
        torch.testing.assert_close((parameter.detach() - source[key]).norm(), distance[key])


def test_small_steps_of_plain_sgd_are_never_drawn_back() -> None:
    """They go towards the source where the gradient points there."""
    _, drawn = reference(start(1), start(0), sgd(1e-3), 1.0)
    assert not drawn
    found = []
    for weight in (0.0, 1.0):
        parameters = {key: nn.Parameter(value) for key, value in tensors(start(1), torch.float64).items()}
        optimizer = torch.optim.SGD(list(parameters.values()), lr=1e-3)
        SelectiveProjectionDecay(optimizer, parameters, tensors(start(0), torch.float64), weight)
        run(optimizer, parameters)
        found.append(parameters)
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_step_back_to_the_source_itself() -> None:
    source = {"weight": torch.ones(3)}
    parameters = {"weight": nn.Parameter(torch.full((3,), 3.0))}
    optimizer = torch.optim.SGD(list(parameters.values()), lr=1.0)
    SelectiveProjectionDecay(optimizer, parameters, source)
    for gradient, expected in ((2.0, 1.0), (0.0, 1.0)):
        parameters["weight"].grad = torch.full((3,), gradient)
        optimizer.step()
        assert parameters["weight"].tolist() == [expected] * 3


@pytest.mark.parametrize("fused", [False, True])
def test_step_that_the_grad_scaler_skips(fused: bool) -> None:
    parameters = {key: nn.Parameter(value) for key, value in tensors(start(1), torch.float32).items()}
    optimizer = torch.optim.Adam(list(parameters.values()), lr=0.1, fused=fused)
    SelectiveProjectionDecay(optimizer, parameters, tensors(start(0), torch.float32))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = {key: parameter.detach().clone() for key, parameter in parameters.items()}
    for scale, moves in ((math.inf, False), (1.0, True)):
        scaler.scale(sum(parameter.sum() * scale for parameter in parameters.values())).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        for key, parameter in parameters.items():
            assert torch.equal(parameter, before[key]) != moves


@pytest.mark.parametrize("name", ["Adam", "Adam, fused"])
def test_scaled_gradients(name: str) -> None:
    """A step with ``GradScaler`` equals one without, although a fused optimizer gets scaled gradients."""
    build, step = OPTIMIZERS[name]
    parameters = {key: nn.Parameter(value) for key, value in tensors(start(1), torch.float64).items()}
    optimizer, scaler = build(list(parameters.values())), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    SelectiveProjectionDecay(optimizer, parameters, tensors(start(0), torch.float64))
    for gradient in gradients():
        optimizer.zero_grad()
        loss = sum((p * torch.tensor(gradient[key])).sum() for key, p in parameters.items())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    expected, drawn = reference(start(1), start(0), step, 1.0)
    assert drawn
    for key, parameter in parameters.items():
        np.testing.assert_allclose(parameter.detach().numpy(), expected[key], rtol=1e-6)


def test_lbfgs_takes_the_first_gradient_of_its_closure() -> None:
    source, parameter = torch.zeros(2), nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.LBFGS([parameter], lr=1.0, max_iter=4)
    SelectiveProjectionDecay(optimizer, {"p": parameter}, {"p": source})
    calls: list[tuple[Tensor, Tensor]] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (parameter - torch.tensor([-3.0, 4.0])).square().sum()
        loss.backward()
        calls.append((parameter.detach().clone(), parameter.grad.clone()))
        return loss

    optimizer.step(closure)
    before, gradient = calls[0]
    assert len(calls) > 1
    assert float(gradient @ before) > 0  # c < 0
    torch.testing.assert_close(parameter.detach().norm(), before.norm())  # drawn back from |(-3, 4)| = 5


def test_remove_and_what_is_left_alone() -> None:
    source = tensors(start(0), torch.float64)

    def trained(names: list[str], remove: bool) -> dict[str, Tensor]:
        parameters = {key: nn.Parameter(value) for key, value in tensors(start(1), torch.float64).items()}
        optimizer = torch.optim.SGD(list(parameters.values()), lr=0.1, momentum=0.9)
        decay = SelectiveProjectionDecay(optimizer, {name: parameters[name] for name in names}, source)
        if remove:
            decay.remove()
        run(optimizer, parameters)
        return {key: parameter.detach() for key, parameter in parameters.items()}

    both, one, none, removed = (
        trained(*way) for way in ((list(SHAPES), False), (["bias"], False), ([], False), (["bias"], True))
    )
    torch.testing.assert_close(removed, none, rtol=0, atol=0)
    torch.testing.assert_close(one, {"weight": none["weight"], "bias": both["bias"]}, rtol=0, atol=0)
    assert not any(torch.equal(both[key], none[key]) for key in both)


def test_source_is_copied() -> None:
    parameters = {"p": nn.Parameter(torch.ones(2))}
    source = {key: value.detach() for key, value in parameters.items()}
    optimizer = torch.optim.SGD(list(parameters.values()), lr=1.0)
    decay = SelectiveProjectionDecay(optimizer, parameters, source)
    parameters["p"].grad = torch.ones(2)
    optimizer.step()
    assert decay._pairs[0][1].tolist() == [1.0, 1.0]


def test_parameters_without_gradient_do_not_matter() -> None:
    parameters = {"p": nn.Parameter(torch.ones(2)), "q": nn.Parameter(torch.ones(2), requires_grad=False)}
    optimizer = torch.optim.SGD([parameters["p"]], lr=1.0)
    SelectiveProjectionDecay(optimizer, parameters, {"p": torch.zeros(2), "q": torch.zeros(2), "extra": torch.ones(1)})
    optimizer.step()
    assert [p.tolist() for p in parameters.values()] == [[1.0, 1.0]] * 2


@pytest.mark.parametrize(
    ("source", "weight", "owned", "match"),
    [
        ({"p": torch.zeros(2)}, -1, True, "weight=-1; expected a finite number"),
        ({"p": torch.zeros(2)}, math.nan, True, "weight=nan"),
        ({"p": torch.zeros(2)}, "1", True, "weight='1'"),
        ({"q": torch.zeros(2)}, 1, True, "source has no 'p'"),
        ({"p": torch.zeros(3)}, 1, True, r"'p' is \(2,\) in the student, \(3,\) in the source"),
        ({"p": torch.zeros(2)}, 1, False, "'p' is not among the optimizer's parameters"),
    ],
)
def test_bad_input(source, weight, owned, match) -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter if owned else nn.Parameter(torch.ones(2))], lr=1.0)
    with pytest.raises(ValueError, match=match):
        SelectiveProjectionDecay(optimizer, {"p": parameter}, source, weight)
    assert not optimizer._optimizer_step_pre_hooks


def test_a_state_dict_is_no_parameters() -> None:
    """Its tensors never get gradients, on which the decay depends, so nothing would be drawn back."""
    student, source = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = torch.optim.Adam(student.parameters())
    with pytest.raises(TypeError, match=r"'weight' of the student is not a parameter.*dict\(student.named_parameters"):
        SelectiveProjectionDecay(optimizer, student.state_dict(), source.state_dict())
    assert not optimizer._optimizer_step_pre_hooks
