"""The promises of docstrings where the formula is undefined: constant, coinciding and zero features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from xtask_reg.losses.attention_transfer import attention_transfer_loss
from xtask_reg.losses.batch_spectral_shrinkage import bss_loss
from xtask_reg.losses.channel_attention import channel_attention_loss
from xtask_reg.losses.channel_wise import channel_wise_loss
from xtask_reg.losses.cosine_alignment import cosine_alignment_loss
from xtask_reg.losses.cosine_smooth_l1 import cosine_smooth_l1_loss
from xtask_reg.losses.gram_anchoring import gram_anchoring_loss
from xtask_reg.losses.kd import kd_loss
from xtask_reg.losses.local_similarity import local_similarity_loss
from xtask_reg.losses.lwf import lwf_loss
from xtask_reg.losses.pearson import pearson_loss
from xtask_reg.losses.rkd_angle import rkd_angle_loss
from xtask_reg.losses.rkd_distance import rkd_distance_loss
from xtask_reg.losses.softmax_l2 import softmax_l2_loss


def tensor(*values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize("constant", [0.0, 0.1, 65504.0, -1e30])
@pytest.mark.parametrize("images", [1, 32])
def test_pearson_with_constant_channels(constant: float, images: int) -> None:
    still = torch.full((images, 2, 64), constant)
    varied = torch.randn(images, 2, 64)
    half = torch.stack([still[:, 0], varied[:, 1]], dim=1)
    assert pearson_loss(still, still + 3) == 0
    assert pearson_loss(still, varied).item() == pytest.approx(1 / 2)
    assert pearson_loss(varied, half).item() == pytest.approx(1 / 4)


@pytest.mark.parametrize("offset", [0, 1, 1e3])
@pytest.mark.parametrize(("deviation", "expected"), [(0.9e-5, 1 / 2), (1.1e-5, 0)])
def test_pearson_where_a_channel_begins_to_vary(deviation: float, expected: float, offset: float) -> None:
    pattern = tensor([[1, -1] * 8]).double()
    faint = offset + deviation * max(offset, 1) * pattern
    assert pearson_loss(faint, pattern).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("offset", [0, 1e3])
def test_distances_of_near_images_keep_their_digits(offset: float) -> None:
    student, teacher = offset + torch.rand(2, 32, 8, dtype=torch.float64) / 1024
    student, teacher = student.float(), teacher.float()
    for loss in (rkd_distance_loss, rkd_angle_loss):
        exact = loss(student.double(), teacher.double()).item()
        assert loss(student, teacher).item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        attention_transfer_loss,
        channel_attention_loss,
        cosine_alignment_loss,
        pearson_loss,
        rkd_distance_loss,
        rkd_angle_loss,
        gram_anchoring_loss,
        local_similarity_loss,
    ],
)
def test_huge_features_do_not_overflow(loss) -> None:
    student, teacher = torch.randn(2, 4, 3, 2, 2)
    for features in (student, -student.abs(), student.relu()):
        huge = loss((1e30 * features).requires_grad_(), teacher)
        assert huge.item() == pytest.approx(loss(features, teacher).item(), rel=1e-4)


@pytest.mark.parametrize(("length", "expected"), [(1.1e-8, 0), (0.9e-8, 1)])
def test_where_a_vector_begins_to_have_a_direction(length: float, expected: float) -> None:
    student, teacher = length * tensor([0.6, 0.8]), tensor([3, 4])
    for given in ((student, teacher), (teacher, student)):
        assert cosine_alignment_loss(*given).item() == pytest.approx(expected, abs=1e-6)


def test_coinciding_images() -> None:
    student = tensor([1, 2], [1, 2], [1, 2]).requires_grad_()
    teacher = tensor([0, 0], [0, 3], [4, 0])
    distance, angle = rkd_distance_loss(student, teacher), rkd_angle_loss(student, teacher)
    assert distance.item() == pytest.approx(np.mean([(3 / 4) ** 2 / 2, 1 / 2, 5 / 4 - 1 / 2]))
    assert angle.item() == pytest.approx(np.mean([0, (3 / 5) ** 2 / 2, (4 / 5) ** 2 / 2]))
    for value in (distance, angle):
        assert not torch.autograd.grad(value, student)[0].any()


@pytest.mark.parametrize(("loss", "too_few"), [(rkd_distance_loss, [1]), (rkd_angle_loss, [1, 2])])
def test_images_too_few_for_a_relation(loss, too_few: list[int]) -> None:
    for images in too_few:
        student = torch.randn(images, 3, requires_grad=True)
        value = loss(student, torch.randn(images, 3))
        assert value == 0
        assert not torch.autograd.grad(value, student)[0].any()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (cosine_smooth_l1_loss, 0.9 / 2 + 0.1 / 4),
        (gram_anchoring_loss, 5 / 9),
        (local_similarity_loss, sum(rel_entr(softmax([10, 0]), 1 / 2)) / 3),
    ],
)
def test_a_student_of_zeros(loss, expected: float) -> None:
    student = torch.zeros(1, 2, 1, 3, requires_grad=True)
    value = loss(student, tensor([[[1, 1, 0]], [[0, 0, 1]]]))
    assert value.item() == pytest.approx(expected)
    if loss is not cosine_smooth_l1_loss:
        assert not torch.autograd.grad(value, student)[0].any()


@pytest.mark.parametrize(
    "loss", [attention_transfer_loss, channel_wise_loss, gram_anchoring_loss, local_similarity_loss]
)
def test_a_single_location_is_exactly_alike(loss) -> None:
    """Not only up to rounding, which a balanced weight would scale up to a meaningful gradient."""
    student = torch.randn(64, 6, 1, 1, requires_grad=True)
    value = loss(student, torch.randn(64, 6, 1, 1))
    assert value == 0
    assert not torch.autograd.grad(value, student)[0].any()


@pytest.mark.parametrize("shape", [(4, 1), (4, 1, 3, 2)])
@pytest.mark.parametrize("loss", [softmax_l2_loss, kd_loss, lwf_loss])
def test_a_single_class_is_refused_and_two_are_its_sigmoid(loss, shape: tuple[int, ...]) -> None:
    student, teacher = torch.randn(2, *shape)
    with pytest.raises(ValueError, match=r"of one class.* second output"):
        loss(student, teacher)
    student, teacher = (torch.cat([torch.zeros(shape), score], dim=1) for score in (student, teacher))
    torch.testing.assert_close(student.softmax(1)[:, 1], student[:, 1].sigmoid())
    assert loss(student, teacher) > 0


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (4, 4)])
def test_bss_with_repeated_rows_has_a_finite_gradient(shape: tuple[int, int]) -> None:
    student = torch.randn(1, shape[1]).repeat(shape[0], 1).requires_grad_()
    for count in (1, 2, 4):
        value = bss_loss(student, count)
        assert 0 <= value.item() <= 1e-4 or count == 4
        assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_bss_gradient_of_equal_singular_values() -> None:
    student = 3 * torch.eye(4, dtype=torch.float64, requires_grad=True)
    value = bss_loss(student, count=4)
    assert value.item() == pytest.approx(36)
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], 2 * student)


def test_bss_of_float32_keeps_its_digits_beside_a_large_mean() -> None:
    student = 100 + torch.randn(8, 64)
    exact = np.linalg.svd(student.double().numpy(), compute_uv=False)[-1] ** 2
    assert bss_loss(student).item() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_bss_of_features_that_are_not_finite_is_nan(bad: float) -> None:
    for images in (1, 2, 6):
        student = torch.randn(images, 9)
        student[-1, -1] = bad
        assert bss_loss(student).isnan()
