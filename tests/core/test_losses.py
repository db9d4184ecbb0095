from __future__ import annotations

import doctest
import importlib
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from xtask_reg import CosineAlignmentLoss, SoftmaxL2Loss
from xtask_reg.losses import cosine_alignment_loss, softmax_l2_loss

OVERS = ("flatten", "location", "pooled")
REDUCTIONS = ("mean", "sum")
HALVES = (torch.float16, torch.bfloat16)
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "softmax_l2": softmax_l2_loss,
    **{over: lambda s, t, over=over: cosine_alignment_loss(s, t, over) for over in OVERS},
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def pair(name: str, images: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Random input for a loss: student (with gradient) and teacher."""
    shape = (images, 6) if name == "softmax_l2" else (images, 6, 3, 4)
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, *shape, dtype=torch.float64, generator=generator).to(dtype)
    return student.detach().requires_grad_(), teacher.detach()


def softmax_l2_by_loops(student: Tensor, teacher: Tensor, temperature: float, reduction: str) -> float:
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = ([math.exp(z / temperature - max(row) / temperature) for z in row] for row in (s, t))
        total += sum((a / sum(p) - b / sum(q)) ** 2 for a, b in zip(p, q, strict=True))
    return total / len(student) if reduction == "mean" else total


def cosine_by_loops(student: Tensor, teacher: Tensor, over: str) -> list[float]:
    """The cosine of each image."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / (
            math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
        )

    values = []
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        if over == "flatten":
            values.append(cosine(s.ravel(), t.ravel()))
            continue
        s, t = s.reshape(len(s), -1), t.reshape(len(t), -1)
        if over == "pooled":
            values.append(cosine([sum(c) / len(c) for c in s], [sum(c) / len(c) for c in t]))
        else:
            values.append(sum(cosine(s[:, at], t[:, at]) for at in range(s.shape[1])) / s.shape[1])
    return values


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7])
@pytest.mark.parametrize("shape", [(1, 2), (5, 7), (2, 100), (3, 1)])
def test_softmax_l2_against_loops(shape: tuple[int, ...], temperature: float, reduction: str) -> None:
    student, teacher = 5 * torch.randn(2, *shape, dtype=torch.float64)
    expected = softmax_l2_by_loops(student, teacher, temperature, reduction)
    for value in (
        softmax_l2_loss(student, teacher, temperature, reduction),
        SoftmaxL2Loss(temperature, reduction)(student, teacher),
    ):
        assert value.shape == ()
        assert value.item() == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("over", OVERS)
@pytest.mark.parametrize("shape", [(1, 3), (4, 5), (2, 3, 7), (3, 4, 2, 5), (2, 2, 2, 3, 2), (3, 1, 4, 4)])
def test_cosine_against_loops(shape: tuple[int, ...], over: str, reduction: str) -> None:
    student, teacher = torch.randn(2, *shape, dtype=torch.float64)
    cosines = cosine_by_loops(student, teacher, over)
    expected = 1 - (sum(cosines) / len(cosines) if reduction == "mean" else sum(cosines))
    for value in (
        cosine_alignment_loss(student, teacher, over, reduction),
        CosineAlignmentLoss(over, reduction)(student, teacher),
    ):
        assert value.shape == ()
        assert value.item() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_defaults_are_the_paper_s() -> None:
    logits, features = pair("softmax_l2"), pair("flatten")
    assert softmax_l2_loss(*logits) == softmax_l2_loss(*logits, temperature=2.0, reduction="mean")
    assert SoftmaxL2Loss()(*logits) == softmax_l2_loss(*logits)
    assert CosineAlignmentLoss()(*features) == cosine_alignment_loss(*features, over="flatten", reduction="mean")


@pytest.mark.parametrize("images", [1, 2, 5])
def test_eq_4_sum_has_minimum_1_minus_b(images: int) -> None:
    features = torch.randn(images, 3, 2, 2, dtype=torch.float64)
    assert cosine_alignment_loss(features, 3 * features, reduction="sum").item() == pytest.approx(1 - images)
    assert cosine_alignment_loss(features, -features, reduction="sum").item() == pytest.approx(1 + images)
    assert cosine_alignment_loss(features, features).item() == pytest.approx(0, abs=1e-12)


def test_pooled_compares_maps_of_different_size() -> None:
    student, teacher = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    expected = cosine_by_loops(student.mean((2, 3)), teacher.mean(2), "flatten")
    assert cosine_alignment_loss(student, teacher, "pooled").item() == pytest.approx(1 - sum(expected) / 2)


@each_loss
def test_gradient_is_the_numerical_one(name: str) -> None:
    student, teacher = pair(name)
    torch.autograd.gradcheck(LOSSES[name], (student, teacher.requires_grad_()))


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64], ids=str)
@each_loss
def test_dtype_of_the_result(name: str, dtype: torch.dtype) -> None:
    student, teacher = pair(name, dtype=dtype)
    value = LOSSES[name](student, teacher)
    value.backward()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert student.grad is not None
    assert student.grad.dtype == dtype
    assert value.item() == pytest.approx(LOSSES[name](student.double(), teacher.double()).item(), rel=1e-5)


@pytest.mark.parametrize("student_is_double", [True, False])
@each_loss
def test_float64_is_never_lowered(name: str, student_is_double: bool) -> None:
    student, teacher = pair(name)
    lowered = (student, teacher.half()) if student_is_double else (student.half(), teacher)
    value = LOSSES[name](*lowered)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(LOSSES[name](*(each.double() for each in lowered)).item(), rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@each_loss
def test_autocast_changes_nothing(name: str, dtype: torch.dtype) -> None:
    student, teacher = pair(name, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = LOSSES[name](student, teacher)
    outside = LOSSES[name](student, teacher)
    assert inside.dtype == outside.dtype
    assert inside == outside


def extremes(name: str) -> dict[str, tuple[Tensor, Tensor]]:
    student, teacher = (each.detach() for each in pair(name, dtype=torch.float32))
    return {
        "zeros": (torch.zeros_like(student), torch.zeros_like(teacher)),
        "zero student": (torch.zeros_like(student), teacher),
        "zero teacher": (student, torch.zeros_like(teacher)),
        "one zero image": (student * torch.tensor([0.0, 1, 1]).view(3, *[1] * (student.ndim - 1)), teacher),
        "one sample": (student[:1], teacher[:1]),
        "identical": (teacher, teacher),
        "opposite": (-teacher, teacher),
        "1e4": (1e4 * student, -1e4 * teacher),
        "fp16 largest": ((65504 * student.sign()).half(), (65504 * teacher.sign()).half()),
        "fp16 largest everywhere": (torch.full_like(student, 65504).half(), torch.full_like(teacher, -65504).half()),
        "fp16 smallest": ((student * 6e-8).half(), teacher.half()),
        "tiny": (1e-30 * student, 1e-30 * teacher),
    }


@pytest.mark.parametrize("case", extremes("flatten"))
@each_loss
def test_extremes_are_finite(name: str, case: str) -> None:
    student, teacher = extremes(name)[case]
    student = student.clone().requires_grad_()
    value = LOSSES[name](student, teacher)
    value.backward()
    assert 0 <= value.item() + 1e-6 <= 2 + 2e-6
    assert student.grad is not None
    if case != "fp16 smallest":  # the true gradient of so short a vector exceeds the range of float16
        assert student.grad.isfinite().all()


@pytest.mark.parametrize("over", OVERS)
def test_cosine_with_a_zero_vector_counts_as_zero(over: str) -> None:
    student = torch.zeros(1, 4, 2, 2, requires_grad=True)
    value = cosine_alignment_loss(student, torch.randn(1, 4, 2, 2), over)
    value.backward()
    assert value.item() == 1
    assert student.grad is not None
    assert not student.grad.any()


def test_one_hot_against_another_is_2() -> None:
    student, teacher = torch.tensor([[1e4, 0.0, 0.0]]), torch.tensor([[0.0, 1e4, 0.0]])
    assert softmax_l2_loss(student, teacher).item() == 2


@each_loss
def test_batch_size_does_not_change_the_mean(name: str) -> None:
    student, teacher = pair(name)
    tiled = (each.repeat(5, *[1] * (each.ndim - 1)) for each in (student, teacher))
    assert LOSSES[name](*tiled).item() == pytest.approx(LOSSES[name](student, teacher).item(), rel=1e-12)


@pytest.mark.parametrize("tiles", [(1, 1, 3, 1), (1, 1, 2, 2), (1, 4, 1, 1)], ids=["height", "map", "channels"])
@pytest.mark.parametrize("over", OVERS)
def test_resolution_and_channels_do_not_change_the_mean(over: str, tiles: tuple[int, ...]) -> None:
    student, teacher = pair(over)
    tiled = cosine_alignment_loss(student.repeat(tiles), teacher.repeat(tiles), over)
    assert tiled.item() == pytest.approx(cosine_alignment_loss(student, teacher, over).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "student", "teacher"),
    [
        *[(over, (2, 3, 4, 4), other) for over in OVERS[:2] for other in [(2, 3, 4, 5), (2, 5, 4, 4), (3, 3, 4, 4)]],
        *[(over, (2, 3, 4, 4), (2, 3)) for over in OVERS[:2]],
        *[("pooled", (2, 3, 4, 4), other) for other in [(2, 5, 4, 4), (3, 3, 4, 4)]],
        *[(over, (3,), (3,)) for over in OVERS],
        *[("softmax_l2", (2, 3), other) for other in [(2, 4), (3, 3), (1, 3), (3,)]],
        ("softmax_l2", (2, 3, 4, 4), (2, 3, 4, 4)),
        ("softmax_l2", (3,), (3,)),
    ],
)
def test_shapes_that_do_not_fit_are_both_named(name: str, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must") as error:
        LOSSES[name](torch.ones(student), torch.ones(teacher))
    assert str(student) in str(error.value)
    assert str(teacher) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        *[({"temperature": bad}, repr(bad)) for bad in (0, 0.0, -1, -2.5, math.nan, math.inf, -math.inf)],
        ({"reduction": "none"}, "'none'"),
        ({"reduction": "batchmean"}, "'batchmean'"),
    ],
)
def test_bad_option_of_softmax_l2_is_named(arguments: dict[str, object], named: str) -> None:
    logits = torch.ones(1, 2)
    with pytest.raises(ValueError, match=named):
        softmax_l2_loss(logits, logits, **arguments)
    with pytest.raises(ValueError, match=named):
        SoftmaxL2Loss(**arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"over": "channel"}, "'channel'"), ({"over": ""}, "''"), ({"reduction": "none"}, "'none'")],
)
def test_bad_option_of_cosine_is_named(arguments: dict[str, object], named: str) -> None:
    features = torch.ones(1, 2)
    with pytest.raises(ValueError, match=named):
        cosine_alignment_loss(features, features, **arguments)
    with pytest.raises(ValueError, match=named):
        CosineAlignmentLoss(**arguments)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool], ids=str)
@pytest.mark.parametrize("integer", ["student", "teacher"])
@each_loss
def test_integer_input_raises(name: str, integer: str, dtype: torch.dtype) -> None:
    student, teacher = pair(name)
    if integer == "student":
        student = student.detach().to(dtype)
    else:
        teacher = teacher.to(dtype)
    with pytest.raises(TypeError, match=f"{integer}.*{dtype}"):
        LOSSES[name](student, teacher)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@each_loss
def test_compiled_gives_the_same(name: str, dtype: torch.dtype) -> None:
    student, teacher = pair(name, dtype=dtype)
    expected = LOSSES[name](student, teacher)
    (gradient,) = torch.autograd.grad(expected, student)
    value = torch.compile(LOSSES[name], backend="aot_eager", fullgraph=True)(student, teacher)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], gradient)


@pytest.mark.parametrize("module", ["cosine_alignment", "softmax_l2"])
def test_docstring_examples_run(module: str) -> None:
    imported = importlib.import_module(f"xtask_reg.losses.{module}")
    result = doctest.testmod(imported, extraglobs={"torch": torch})
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        (SoftmaxL2Loss(3.0, "sum"), "SoftmaxL2Loss(temperature=3.0, reduction='sum')"),
        (CosineAlignmentLoss("pooled"), "CosineAlignmentLoss(over='pooled', reduction='mean')"),
    ],
)
def test_modules_show_their_options(module: torch.nn.Module, shown: str) -> None:
    assert repr(module) == shown
