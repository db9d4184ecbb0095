from __future__ import annotations

import math

import numpy as np
import pytest

from xtask_reg.landmarks import decode_heatmaps, gaussian_heatmaps

# The mean distance of a uniformly random point of a unit square from the square's centre.
MEAN_ARGMAX_ERROR = (math.sqrt(2) + math.asinh(1)) / 6


def gaussian_by_formula(x: float, y: float, width: int, height: int, sigma: float) -> np.ndarray:
    return np.array(
        [[math.exp(-((a - x) ** 2 + (b - y) ** 2) / (2 * sigma**2)) for a in range(width)] for b in range(height)]
    )


def uniform_centres(count: int) -> np.ndarray:
    """Random centres whose nearest cell is in the interior of a 32 x 24 heatmap."""
    return np.random.default_rng(0).uniform([0.5, 0.5], [30.5, 22.5], size=(count, 2))


def mean_distance(decoded: np.ndarray, centres: np.ndarray) -> float:
    return float(np.linalg.norm(decoded - centres, axis=-1).mean())


@pytest.mark.parametrize("sigma", [0.4, 1.5, 6.0])
@pytest.mark.parametrize(
    "centre", [(5.0, 4.0), (5.37, 3.81), (0.0, 0.0), (2.5, 0.5), (10.0, 7.0), (-1.3, 9.2), (14.0, -6.5), (1e3, 2.0)]
)
def test_every_cell_follows_the_formula(centre: tuple[float, float], sigma: float) -> None:
    heatmaps = gaussian_heatmaps(np.array([centre]), size=(11, 8), sigma=sigma)
    assert heatmaps.dtype == np.float32
    assert heatmaps.shape == (1, 8, 11)
    np.testing.assert_allclose(heatmaps[0], gaussian_by_formula(*centre, 11, 8, sigma), rtol=1e-6, atol=1e-44)


def test_default_sigma_is_the_papers() -> None:
    heatmaps = gaussian_heatmaps(np.array([[3.0, 2.0]]), size=(7, 5))
    np.testing.assert_allclose(heatmaps[0], gaussian_by_formula(3, 2, 7, 5, sigma=1.5), rtol=1e-6)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (0,)])
def test_leading_dimensions_are_kept(leading: tuple[int, ...]) -> None:
    points = np.random.default_rng(1).uniform(0, 8, size=(*leading, 4, 2)).astype(np.float32)
    heatmaps = gaussian_heatmaps(points, size=(9, 6))
    decoded, scores = decode_heatmaps(heatmaps)
    assert heatmaps.shape == (*leading, 4, 6, 9)
    assert decoded.shape == (*leading, 4, 2)
    assert scores.shape == (*leading, 4)
    for index in np.ndindex(*leading, 4):
        expected = gaussian_by_formula(*points[index].astype(float), 9, 6, sigma=1.5)
        np.testing.assert_allclose(heatmaps[index], expected, rtol=1e-6)


def test_tiny_sigma_leaves_one_cell_without_warnings() -> None:
    heatmaps = gaussian_heatmaps(np.array([[3.0, 2.0]]), size=(7, 5), sigma=1e-100)
    assert heatmaps.sum() == heatmaps[0, 2, 3] == 1


def test_a_single_cell_and_plain_numbers() -> None:
    heatmaps = gaussian_heatmaps([[0.0, 1.5]], size=(1, 1))
    np.testing.assert_allclose(heatmaps, [[[math.exp(-0.5)]]], rtol=1e-6)
    assert [found.tolist() for found in decode_heatmaps(heatmaps.tolist())] == [[[0, 0]], heatmaps[:, 0, 0].tolist()]


@pytest.mark.parametrize("x", [*range(5), *range(59, 64)])
@pytest.mark.parametrize("y", [*range(5), *range(43, 48)])
def test_centres_near_the_border_are_decoded_exactly(x: int, y: int) -> None:
    decoded, scores = decode_heatmaps(gaussian_heatmaps(np.array([[x, y]]), size=(64, 48)))
    np.testing.assert_array_equal(decoded, [[x, y]])
    assert scores[0] == 1


@pytest.mark.parametrize(
    ("centre", "nearest"), [((-3.2, 5.4), (0, 5)), ((70.0, -9.0), (63, 0)), ((2.6, 50.0), (3, 47))]
)
def test_a_centre_beyond_the_border_peaks_in_the_nearest_cell(
    centre: tuple[float, float], nearest: tuple[int, int]
) -> None:
    decoded, _ = decode_heatmaps(gaussian_heatmaps(np.array([centre]), size=(64, 48), sigma=4))
    np.testing.assert_array_equal(decoded, [nearest])


def test_a_centre_between_four_cells_gives_them_one_value() -> None:
    heatmap = gaussian_heatmaps(np.array([[2.5, 0.5]]), size=(6, 4))[0]
    np.testing.assert_array_equal(heatmap[:2, 2:4], np.float32(math.exp(-0.25 / 1.5**2)))
    assert heatmap.max() == heatmap[0, 2]
    np.testing.assert_array_equal(decode_heatmaps(heatmap[None])[0], [[2, 0]])


def test_argmax_of_a_real_valued_centre_is_within_half_a_pixel() -> None:
    axis = np.linspace(0, 15, 61)
    centres = np.stack(np.meshgrid(axis, axis), axis=-1)
    decoded, _ = decode_heatmaps(gaussian_heatmaps(centres, size=(16, 16)))
    assert np.abs(decoded - centres).max() <= 0.5


def test_argmax_error_of_random_centres_is_the_analytic_one() -> None:
    centres = uniform_centres(20_000)
    decoded, scores = decode_heatmaps(gaussian_heatmaps(centres, size=(32, 24)))
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, np.rint(centres))
    assert mean_distance(decoded, centres) == pytest.approx(MEAN_ARGMAX_ERROR, abs=0.005)
    np.testing.assert_allclose(scores, np.exp(-((decoded - centres) ** 2).sum(-1) / (2 * 1.5**2)), rtol=1e-6)


def test_quarter_offset_halves_the_error_of_random_centres() -> None:
    # Each residual is uniform in [-1/2, 1/2] before and in [-1/4, 1/4] after the shift by 1/4 towards it.
    centres = uniform_centres(20_000)
    decoded, _ = decode_heatmaps(gaussian_heatmaps(centres, size=(32, 24)), method="quarter_offset")
    assert mean_distance(decoded, centres) == pytest.approx(MEAN_ARGMAX_ERROR / 2, abs=0.003)


def quarter_offset_by_loops(heatmap: np.ndarray) -> tuple[float, float]:
    height, width = heatmap.shape
    y, x = np.unravel_index(np.argmax(heatmap), heatmap.shape)
    shift_x = np.sign(float(heatmap[y, x + 1]) - float(heatmap[y, x - 1])) if 0 < x < width - 1 else 0
    shift_y = np.sign(float(heatmap[y + 1, x]) - float(heatmap[y - 1, x])) if 0 < y < height - 1 else 0
    return x + 0.25 * shift_x, y + 0.25 * shift_y


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint8, np.int64])
@pytest.mark.parametrize("size", [(5, 4), (1, 3), (2, 2)])
def test_quarter_offset_against_loops(size: tuple[int, int], dtype: type) -> None:
    heatmaps = np.random.default_rng(2).integers(0, 9, size=(200, 1, *size)).astype(dtype)  # many ties and borders
    decoded, scores = decode_heatmaps(heatmaps, method="quarter_offset")
    np.testing.assert_array_equal(decoded[:, 0], [quarter_offset_by_loops(heatmap) for heatmap in heatmaps[:, 0]])
    np.testing.assert_array_equal(scores, heatmaps.max(axis=(-2, -1)))
    assert scores.dtype == dtype


def test_a_heatmap_without_a_positive_value_is_decoded() -> None:
    heatmaps = np.full((2, 3, 4), -2.0)
    heatmaps[0, 1, 3] = -0.5
    decoded, scores = decode_heatmaps(heatmaps)
    np.testing.assert_array_equal(decoded, [[3, 1], [0, 0]])
    np.testing.assert_array_equal(scores, [-0.5, -2.0])


POINT = np.zeros((1, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": 0.0}, "sigma must be finite and > 0, got 0.0"),
        ({"sigma": -1.5}, "got -1.5"),
        ({"sigma": math.nan}, "got nan"),
        ({"sigma": math.inf}, "got inf"),
        ({"size": (0, 4)}, r"width, height.*got \(0, 4\)"),
        ({"size": (4, -1)}, r"got \(4, -1\)"),
        ({"size": (4.0, 4)}, r"got \(4.0, 4\)"),
        ({"size": (4, 4, 4)}, r"got \(4, 4, 4\)"),
        ({"points": np.zeros(2)}, r"\(\.\.\., K, 2\), got \(2,\)"),
        ({"points": np.zeros((5, 3))}, r"got \(5, 3\)"),
        ({"points": np.array([[[0, 0], [1, math.nan]]])}, r"points\[0, 1, 1\] is nan"),
        ({"points": np.array([[math.inf, 0]])}, r"points\[0, 0\] is inf"),
    ],
)
def test_encoding_refuses_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian_heatmaps(**{"points": POINT, "size": (4, 4), **arguments})


@pytest.mark.parametrize(
    ("heatmaps", "method", "message"),
    [
        (np.zeros((1, 4, 4)), "dark", "argmax.*quarter_offset.*got 'dark'"),
        (np.zeros((4, 4)), "argmax", r"\(\.\.\., K, H, W\).*got \(4, 4\)"),
        (np.zeros((1, 0, 4)), "argmax", r"got \(1, 0, 4\)"),
        (np.array([[[[0.0]], [[math.nan]]]]), "argmax", r"heatmaps\[0, 1\] contains NaN"),
        (np.array([[[2.0, 1.0, math.nan, 0.0]]]), "quarter_offset", r"heatmaps\[0\] contains NaN"),
    ],
)
def test_decoding_refuses_bad_input(heatmaps: np.ndarray, method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_heatmaps(heatmaps, method)
