"""Spatial and channel attention: independence of the features' scale, and the authors' own normalisation."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from xtask_reg.losses.attention_transfer import attention_transfer_loss
from xtask_reg.losses.channel_attention import channel_attention_loss

FEATURES = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
each_loss = pytest.mark.parametrize("loss", [attention_transfer_loss, channel_attention_loss])


def test_mean_over_locations_of_the_released_code() -> None:
    maps = [normalize(features.pow(2).mean(1).flatten(1)) for features in FEATURES]
    released = (maps[0] - maps[1]).pow(2).mean()
    assert attention_transfer_loss(*FEATURES).item() == pytest.approx(5 * 6 * released.item())


@pytest.mark.parametrize("factor", [1e-7, 1e-4, 1e4, 1e15, 1e30])
@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
@each_loss
def test_size_of_the_features_does_not_matter(loss, power: float, factor: float) -> None:
    expected = loss(*FEATURES, power)
    student, teacher = (features.float() for features in FEATURES)
    student = (factor * student).requires_grad_()
    value = loss(student, teacher, power)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    exact = FEATURES[0].clone().requires_grad_()
    slope = torch.autograd.grad(loss(exact, FEATURES[1], power), exact)[0].float()
    torch.testing.assert_close(factor * torch.autograd.grad(value, student)[0], slope, rtol=1e-3, atol=1e-7)


@each_loss
def test_sign_of_the_features_does_not_matter(loss) -> None:
    assert loss(FEATURES[0], -FEATURES[1]).item() == pytest.approx(loss(*FEATURES).item())
    assert loss(FEATURES[0], -FEATURES[0]).item() == pytest.approx(0, abs=1e-15)


@each_loss
def test_image_without_features_has_distance_1_and_no_gradient(loss) -> None:
    student = torch.zeros_like(FEATURES[0]).requires_grad_()
    value = loss(student, FEATURES[1])
    value.backward()
    assert value.item() == pytest.approx(1)
    assert not student.grad.any()


def test_each_attention_sees_its_axis_alone() -> None:
    """Shuffling locations alike in all channels does not change channel attention; nor do shuffled channels spatial."""
    student, teacher = FEATURES
    flipped, rolled = student.flip(2, 3), student.roll(1, dims=1)
    assert channel_attention_loss(flipped, teacher).item() == pytest.approx(channel_attention_loss(*FEATURES).item())
    assert attention_transfer_loss(rolled, teacher).item() == pytest.approx(attention_transfer_loss(*FEATURES).item())
    assert channel_attention_loss(rolled, student).item() > 1e-3
    assert attention_transfer_loss(flipped, student).item() > 1e-3
