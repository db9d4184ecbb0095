"""The properties of every loss of the library, tested on all cases of ``references/``."""

from __future__ import annotations

import copy
import doctest
import importlib
import inspect
import math
import pickle
import re
from pathlib import Path

import pytest
import torch
from case import Case
from collected import (
    CASES,
    DEVICES,
    EXTREMES,
    different,
    extremes,
    over_alike,
    over_cases,
    over_options,
    over_values,
    pair,
)

import xtask_reg.losses
from xtask_reg.losses.rkd_distance import rkd_distance_loss

FILES = sorted(Path(xtask_reg.losses.__file__).parent.glob("*.py"))
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
AXES = {"images": 0, "channels": 1, "resolution": 2}
each_device = pytest.mark.parametrize("device", DEVICES)


def bounds(case: Case) -> tuple[float, float]:
    return -math.inf if case.lowest is None else case.lowest, math.inf if case.highest is None else case.highest


@over_values(lambda case: [*((shape, shape) for shape in case.shapes), *case.other_shapes])
def test_against_the_reference(case: Case, value) -> None:
    student, teacher = different(*value)
    numbers = student.detach(), teacher
    for options in case.options:
        given = {**case.defaults, **options}
        expected = case.call(case.reference, *numbers, **given)
        for found in (case.call(case.function, *numbers, **options), case.call(case.module(**options), *numbers)):
            assert found.shape == ()
            assert found.dtype == torch.float64
            assert found.item() == pytest.approx(expected, rel=1e-10, abs=1e-14), given


@over_cases()
def test_defaults(case: Case) -> None:
    inputs = 1 if case.alone else 2
    for parameters in (
        list(inspect.signature(case.function).parameters.values())[inputs:],
        list(inspect.signature(case.module).parameters.values()),
    ):
        named = [parameter for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
        assert {parameter.name: parameter.default for parameter in named} == case.defaults
    student, teacher = pair(case)
    value = case.call(case.function, student, teacher, **case.defaults)
    assert case.call(case.function, student, teacher) == value
    assert case.call(case.module(), student, teacher) == value


@over_options()
def test_gradient_is_the_numerical_one(case: Case, options) -> None:
    student, teacher = pair(case)
    given = [student] if case.alone else [student, teacher.requires_grad_()]
    torch.autograd.gradcheck(lambda *tensors: case.function(*tensors, **options), given)


@over_cases()
def test_second_derivative(case: Case) -> None:
    """Gradient penalties and meta-learning need it."""
    student, teacher = pair(case)
    if case.function is rkd_distance_loss:
        pytest.skip("PyTorch has no second derivative of torch.cdist, and says so")
    torch.autograd.gradgradcheck(lambda student: case.call(case.function, student, teacher), student, fast_mode=True)


@over_cases(lambda case: case.function is not rkd_distance_loss)
def test_second_derivative_beside_features_without_a_direction(case: Case) -> None:
    """A location after a ReLU, a whole image, and two images that are the same."""
    student, teacher = (each.detach() for each in pair(case, dtype=torch.float32))
    student[0, ..., :1] = 0
    without, same = student.index_fill(0, torch.tensor(1), 0), torch.cat([student[:1]] * 2)
    for features in (student, without, same):
        given = features.clone().requires_grad_()
        value = case.call(case.function, given, teacher[: len(given)])
        (gradient,) = torch.autograd.grad(value, given, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), given)
        assert second.isfinite().all()


@over_options()
def test_the_teacher_may_come_from_inference_mode(case: Case, options) -> None:
    student, teacher = pair(case)
    with torch.inference_mode():
        inert = teacher.clone()
    found = []
    for given in (teacher, inert):
        value = case.call(case.function, student, given, **options)
        found.append((value, *torch.autograd.grad(value, student)))
    for usual, other in zip(*found, strict=True):
        assert torch.equal(usual, other)


@each_device
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@over_alike()
def test_dtype_of_value_and_gradient(case: Case, options, dtype: torch.dtype, device: str) -> None:
    student, teacher = (tensor.detach().to(device) for tensor in pair(case, dtype=dtype))
    value = case.call(case.function, student.requires_grad_(), teacher, **options)
    value.backward()
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert student.grad.dtype == dtype
    exact = case.call(case.function, student.detach().double(), teacher.double(), **options)
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("lowered", ["student", "teacher"])
@over_alike(lambda case: not case.alone)
def test_float64_is_never_lowered(case: Case, options, lowered: str) -> None:
    student, teacher = pair(case)
    given = (student.half(), teacher) if lowered == "student" else (student, teacher.half())
    value = case.function(*given, **options)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(case.function(*(each.double() for each in given), **options).item(), rel=1e-14)


@each_device
@pytest.mark.parametrize("dtype", FLOATS[1:], ids=str)
@over_options()
def test_autocast_changes_nothing(case: Case, options, dtype: torch.dtype, device: str) -> None:
    student, teacher = (tensor.detach().to(device) for tensor in pair(case, dtype=dtype))
    student.requires_grad_()
    found = []
    for enabled in (False, True):
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            value = case.call(case.function, student, teacher, **options)
        found.append((value, *torch.autograd.grad(value, student)))
    for without, inside in zip(*found, strict=True):
        assert without.dtype == inside.dtype
        assert torch.equal(without, inside)


@each_device
@pytest.mark.parametrize("extreme", EXTREMES)
@over_options()
def test_extremes_are_finite(case: Case, options, extreme: str, device: str) -> None:
    student, teacher = (tensor.detach() for tensor in pair(case, dtype=torch.float32))
    given = [tensor.to(device).clone().requires_grad_() for tensor in extremes(student, teacher)[extreme]]
    value = case.call(case.function, *given, **options)
    gradients = torch.autograd.grad(value, given, allow_unused=case.alone)
    assert value.isfinite()
    if options in case.alike:
        lowest, highest = bounds(case)
        assert lowest - 1e-6 <= value <= highest + 1e-6
    if extreme != "fp16 smallest":  # the true gradient of so short a vector can exceed the range of float16
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@over_alike(lambda case: case.lowest is not None and not case.alone)
def test_identical_tensors_give_the_lowest_value(case: Case, options, dtype: torch.dtype) -> None:
    tolerance = 100 * torch.finfo(dtype).eps
    for shape in case.shapes:
        student, _ = pair(case, shape, dtype)
        teacher = student.detach().clone().requires_grad_()
        value = case.function(student, teacher, **options)
        assert value.item() == pytest.approx(case.lowest, abs=tolerance)
        for gradient in torch.autograd.grad(value, (student, teacher)):
            torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=tolerance)


@over_alike(lambda case: case.lowest is not None or case.highest is not None)
def test_values_lie_between_the_bounds(case: Case, options) -> None:
    lowest, highest = bounds(case)
    rng = torch.Generator().manual_seed(2)
    for exponent in range(-3, 4):
        for shape in case.shapes:
            student, teacher = 10.0**exponent * torch.randn(2, *shape, dtype=torch.float64, generator=rng)
            value = case.call(case.function, student, teacher, **options).item()
            assert lowest - 1e-12 <= value <= highest + 1e-12


@over_values(lambda case: [(axis, options) for axis in case.unchanged_by for options in case.alike])
def test_size_that_does_not_change_the_value(case: Case, value) -> None:
    axis, options = value
    shape = next(shape for shape in case.shapes if len(shape) > AXES[axis])
    student, teacher = pair(case, shape)
    tiles = [1] * len(shape)
    tiles[AXES[axis]] = 3
    if axis == "resolution":
        tiles[-1] = 2
    tiled = case.call(case.function, student.repeat(tiles), teacher.repeat(tiles), **options)
    assert tiled.item() == pytest.approx(case.call(case.function, student, teacher, **options).item(), rel=1e-9)


@over_cases(lambda case: "reduction" in case.defaults and case.sum_is_means)
def test_sum_is_the_mean_times_the_images(case: Case) -> None:
    for shape in case.shapes:
        student, teacher = pair(case, shape)
        mean, total = (case.call(case.function, student, teacher, reduction=how) for how in ("mean", "sum"))
        assert total.item() == pytest.approx(shape[0] * mean.item(), rel=1e-12)


@over_cases()
def test_memory_layout_does_not_matter(case: Case) -> None:
    for shape in case.shapes:
        student, teacher = pair(case, shape)
        backwards = tuple(reversed(range(len(shape))))
        strided = [each.detach().permute(backwards).contiguous().permute(backwards) for each in (student, teacher)]
        value = case.call(case.function, *strided)
        assert value.item() == pytest.approx(case.call(case.function, student, teacher).item(), rel=1e-12)


@over_values(lambda case: case.bad_shapes)
def test_shapes_that_do_not_fit_are_named(case: Case, value) -> None:
    student, teacher = (torch.ones(shape) for shape in value)
    for loss in (case.function, case.module()):
        with pytest.raises(ValueError, match=re.escape(str(value[0]))) as error:
            case.call(loss, student, teacher)
        assert case.alone or str(value[1]) in str(error.value)


def bad_options(case: Case) -> list[tuple[str, object]]:
    reductions = {"reduction": ("none", "batchmean")} if "reduction" in case.defaults else {}
    return [(option, bad) for option, values in {**reductions, **case.bad_options}.items() for bad in values]


@over_values(bad_options)
def test_bad_option_is_named(case: Case, value) -> None:
    option, bad = value
    named = re.escape(f"{option}={bad!r}")
    with pytest.raises(ValueError, match=named):
        case.call(case.function, *pair(case), **{option: bad})
    with pytest.raises(ValueError, match=named):
        case.module(**{option: bad})


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool], ids=str)
@over_values(lambda case: ["student"] if case.alone else ["student", "teacher"])
def test_integer_input_raises(case: Case, value: str, dtype: torch.dtype) -> None:
    given = dict(zip(("student", "teacher"), (each.detach() for each in pair(case)), strict=True))
    given[value] = given[value].to(dtype)
    with pytest.raises(TypeError, match=f"{value}.*{dtype}"):
        case.call(case.function, **given)


@over_options()
def test_batch_without_images_raises(case: Case, options) -> None:
    none = torch.zeros(0, *case.shapes[0][1:])
    with pytest.raises(ValueError, match="image"):
        case.call(case.function, none, none, **options)


@over_values(lambda case: [({}, torch.bfloat16), *((options, torch.float64) for options in case.options)])
def test_compiled_gives_the_same(case: Case, value) -> None:
    options, dtype = value
    torch.compiler.reset()
    student, teacher = pair(case, dtype=dtype)
    loss = case.module(**options)
    found = []
    for run in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        result = case.call(run, student, teacher)
        found.append((result, *torch.autograd.grad(result, student)))
    torch.testing.assert_close(*found)


@over_cases()
def test_compiled_for_any_size_in_one_graph(case: Case) -> None:
    """There the options are symbolic, like the sizes."""
    torch.compiler.reset()
    student, teacher = pair(case)
    loss = case.module()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True, dynamic=True)
    torch.testing.assert_close(case.call(compiled, student, teacher), case.call(loss, student, teacher))


@over_options()
def test_repr_shows_every_option(case: Case, options) -> None:
    shown = ", ".join(f"{option}={value!r}" for option, value in {**case.defaults, **options}.items())
    assert repr(case.module(**options)) == f"{case.module.__name__}({shown})"


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))], ids=["copy", "pickle"]
)
@over_options()
def test_copies_are_the_same(case: Case, options, copied) -> None:
    loss, (student, teacher) = case.module(**options), pair(case)
    other = copied(loss)
    assert repr(other) == repr(loss)
    assert case.call(other, student, teacher) == case.call(loss, student, teacher)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_file_is_short_and_its_examples_run(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 120
    module = importlib.import_module(f"xtask_reg.losses.{path.stem}") if path.stem != "__init__" else xtask_reg.losses
    losses = [
        name for name, each in vars(module).items() if name.endswith("Loss") and each.__module__ == module.__name__
    ]
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.failed == 0
    assert result.attempted > 0 or not losses
    assert set(losses) <= {case.module.__name__ for case in CASES}
