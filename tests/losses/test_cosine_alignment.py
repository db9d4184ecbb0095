from __future__ import annotations

import pytest
import torch

from xtask_reg.losses.cosine_alignment import cosine_alignment_loss

each_over = pytest.mark.parametrize("over", ["flatten", "location", "pooled"])


@pytest.mark.parametrize("images", [1, 2, 5])
def test_eq_4_sum_has_minimum_1_minus_b(images: int) -> None:
    features = torch.randn(images, 3, 2, 2, dtype=torch.float64)
    assert cosine_alignment_loss(features, 3 * features, reduction="sum").item() == pytest.approx(1 - images)
    assert cosine_alignment_loss(features, -features, reduction="sum").item() == pytest.approx(1 + images)
    assert cosine_alignment_loss(features, features).item() == pytest.approx(0, abs=1e-12)


def test_maps_of_millions_of_numbers_keep_their_digits() -> None:
    teacher = torch.randn(1, 64, 256, 256).relu()
    student = (teacher + torch.randn_like(teacher) / 100).requires_grad_()
    exact = student.detach().double().requires_grad_()
    value, expected = (cosine_alignment_loss(each, teacher) for each in (student, exact))
    assert value.item() == pytest.approx(expected.item(), rel=0.01)
    found, right = torch.autograd.grad(value + expected, (student, exact))
    assert (found - right).norm() < 1e-3 * right.norm()
    assert cosine_alignment_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_pooled_compares_maps_of_different_size() -> None:
    student, teacher = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    expected = torch.nn.functional.cosine_similarity(student.mean((2, 3)), teacher.mean(2))
    assert cosine_alignment_loss(student, teacher, "pooled").item() == pytest.approx(1 - expected.mean().item())


@each_over
def test_zero_vector_counts_as_zero(over: str) -> None:
    student = torch.zeros(1, 4, 2, 2, requires_grad=True)
    value = cosine_alignment_loss(student, torch.randn(1, 4, 2, 2), over)
    value.backward()
    assert value.item() == 1
    assert not student.grad.any()


@pytest.mark.parametrize(
    ("over", "student", "teacher"),
    [
        *[("location", (2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (2, 5, 4, 4), (3, 3, 4, 4), (2, 3)]],
        *[("pooled", (2, 3, 4, 4), other) for other in [(2, 5, 4, 4), (3, 3, 4, 4)]],
        *[(over, (3,), (3,)) for over in ("location", "pooled")],
    ],
)
def test_shapes_that_do_not_fit_are_named(over: str, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have") as error:
        cosine_alignment_loss(torch.ones(student), torch.ones(teacher), over)
    assert str(student) in str(error.value)
    assert str(teacher) in str(error.value)
