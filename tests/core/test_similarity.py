"""Cosine and CKA compared with their definitions, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from xtask_reg.measuring import linear_cka, mean_cosine


def cka(x: Tensor, y: Tensor) -> float:
    """Kornblith et al. 2019, by the centred Gram matrices; maps are averaged to at most 8 x 8 cells by hand."""
    grams = []
    for features in (x, y):
        rows = locations(features.double().numpy())
        centre = np.eye(len(rows)) - 1 / len(rows)
        grams.append(centre @ rows @ rows.T @ centre)
    k, h = grams
    return np.trace(k @ h) / np.sqrt(np.trace(k @ k) * np.trace(h @ h))


def locations(features: np.ndarray) -> np.ndarray:
    if features.ndim == 4:
        features = averaged(averaged(features, 2), 3)
    return np.moveaxis(features.reshape(*features.shape[:2], -1), 1, 2).reshape(-1, features.shape[1])


def averaged(features: np.ndarray, axis: int) -> np.ndarray:
    size = features.shape[axis]
    if size <= 8:
        return features
    edges = [(i * size // 8, -(-(i + 1) * size // 8)) for i in range(8)]
    return np.stack([features.take(range(*edge), axis).mean(axis) for edge in edges], axis)


def pair(shape: tuple[int, ...], other_channels: int | None = None) -> tuple[Tensor, Tensor]:
    """Two correlated features."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=generator) + 2
    channels = other_channels or shape[1]
    mixed = torch.einsum("bc...,cd->bd...", x, torch.randn(shape[1], channels, generator=generator))
    return x, mixed + torch.randn(mixed.shape, generator=generator) - 1


MAPS = [(3, 5, 4, 6), (2, 80, 4, 5), (2, 6, 16, 16), (2, 6, 9, 11), (2, 200, 24, 8), (2, 4, 30, 3)]
SHAPES = [(40, 5), (4, 50), *MAPS]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@each_shape
@pytest.mark.parametrize("other_channels", [None, 3, 150])
def test_cka_is_that_of_the_gram_matrices(shape, other_channels) -> None:
    x, y = pair(shape, other_channels)
    assert linear_cka(x, y).item() == pytest.approx(cka(x, y), rel=1e-4)
    assert linear_cka(y, x).item() == pytest.approx(cka(x, y), rel=1e-4)


def test_cka_of_thousands_of_locations_and_channels() -> None:
    x = torch.randn(32, 2048, 7, 7).relu()
    assert linear_cka(x, x).item() == pytest.approx(1, abs=1e-6)


def test_tokens_are_compared_as_locations() -> None:
    x, y = pair((2, 6, 7, 1), 9)
    tokens = (features.flatten(2).transpose(1, 2) for features in (x, y))
    assert linear_cka(*tokens).item() == pytest.approx(cka(x, y), rel=1e-4)


@each_shape
def test_cka_of_a_rotation_and_scaling_is_one(shape) -> None:
    x, y = pair(shape)
    turn = torch.linalg.qr(torch.randn(shape[1], shape[1], generator=torch.Generator().manual_seed(5)))[0]
    turned = -3 * torch.einsum("bc...,cd->bd...", x, turn) + torch.arange(shape[1]).view(-1, *[1] * (len(shape) - 2))
    assert linear_cka(x, turned).item() == pytest.approx(1, abs=1e-4)
    assert linear_cka(turned, y).item() == pytest.approx(linear_cka(x, y).item(), rel=1e-3)
    assert linear_cka(x, y).item() < 0.999


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1e6, 1e18])
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (2, 80, 4, 5)], ids=str)
def test_cka_does_not_depend_on_the_scale(shape, scale) -> None:
    x, y = pair(shape)
    for one, other in ((scale * x, y), (x, scale * y), (scale * x, scale * y)):
        assert linear_cka(one, other).item() == pytest.approx(linear_cka(x, y).item(), rel=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -7.7, 1000.1])
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (2, 80, 4, 5), (1, 5)], ids=str)
def test_cka_of_constant_features_is_unknown(shape, value) -> None:
    """Constant features have no directions, and their rounding error is no similarity."""
    constant = value * torch.arange(1, shape[1] + 1).view(-1, *[1] * (len(shape) - 2)).expand(shape)
    assert linear_cka(constant, pair(shape)[1]).isnan()
    assert linear_cka(pair(shape)[1], constant).isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision(dtype) -> None:
    x, y = (features.to(dtype) for features in pair((2, 6, 4, 5)))
    wanted = torch.promote_types(dtype, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_cka(x, y), mean_cosine(x, y)
    assert [each.dtype for each in found] == [wanted] * 2
    assert found[0].item() == pytest.approx(cka(x, y), rel=1e-4)


def test_maps_of_different_size_are_averaged_to_the_smaller() -> None:
    """To 4 x 3: pairs of rows, and of columns too."""
    x, y = torch.randn(2, 5, 8, 6), torch.randn(2, 7, 4, 3)
    assert linear_cka(x, y).item() == pytest.approx(cka(x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)), y), rel=1e-4)
    assert linear_cka(y, x).item() == pytest.approx(linear_cka(x, y).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("x", "y"), [((2, 5, 4, 4), (3, 5, 4, 4)), ((2, 5, 4, 4), (2, 5)), ((2, 5), (2, 5, 2))], ids=str
)
def test_cka_of_other_images_or_locations(x, y) -> None:
    with pytest.raises(ValueError, match="must have the same images and locations") as error:
        linear_cka(torch.ones(x), torch.ones(y))
    assert str(x) in str(error.value)
    assert str(y) in str(error.value)


@pytest.mark.parametrize("shape", [(4, 5), (3, 5, 7), (2, 6, 16, 16)], ids=str)
def test_cosine_is_the_mean_over_the_images(shape) -> None:
    x, y = pair(shape)
    images = zip(*(features.double().numpy().reshape(len(features), -1) for features in (x, y)), strict=True)
    expected = np.mean([a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in images])
    assert mean_cosine(x, y).item() == pytest.approx(expected, rel=1e-5)
    assert mean_cosine(1e-3 * x, 1e20 * y).item() == pytest.approx(expected, rel=1e-4)
    assert mean_cosine(x, -x).item() == pytest.approx(-1)


def test_cosine_of_different_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        mean_cosine(torch.ones(2, 3), torch.ones(2, 4))
