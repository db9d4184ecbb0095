from __future__ import annotations

import io
import math
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xtask_reg.landmarks import gaussian_heatmaps
from xtask_reg.landmarks.plots import plot_ced, plot_qualitative

ERRORS = {"FT": np.array([0.3, 1.5, 0.6, 0.6]), "CTD": np.array([0.3, math.nan, 0.3, 1.2])}


def png_size(figure: Figure) -> int:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=40)
    return len(stream.getvalue())


def curves(figure: Figure) -> dict[str, Line2D]:
    return {line.get_label().splitlines()[0]: line for line in figure.axes[0].lines}


def test_ced_curves_show_the_errors() -> None:
    lines = curves(plot_ced(ERRORS))
    assert list(lines) == ["FT", "CTD", "threshold 1.2 px"]
    np.testing.assert_allclose(lines["FT"].get_xydata(), [[0, 0], [0.3, 0.25], [0.6, 0.75], [1.5, 1], [2.4, 1]])
    np.testing.assert_allclose(lines["CTD"].get_xydata(), [[0, 0], [0.3, 2 / 3], [1.2, 1], [2.4, 1]])
    assert lines["FT"].get_drawstyle() == "steps-post"
    assert set(lines["threshold 1.2 px"].get_xdata()) == {1.2}
    assert lines["threshold 1.2 px"].get_linestyle() == "--"


def test_ced_legend_names_auc_and_failure_rate() -> None:
    legend = [text.get_text() for text in plot_ced(ERRORS).legends[0].get_texts()]
    # By hand: (0.75 + 0 + 0.5 + 0.5) / 4 and 1 of 4; (0.75 + 0.75 + 0) / 3 and 0 of 3.
    assert legend == ["FT\nAUC 0.438, FR 25.00%", "CTD\nAUC 0.500, FR 0.00%", "threshold 1.2 px"]
    assert plot_ced(ERRORS, space="mm").legends[0].get_texts()[-1].get_text() == "threshold 1.2 mm"


@pytest.mark.parametrize(
    ("arguments", "label", "right"),
    [
        ({}, "mean error per image (heatmap px)", 2.4),
        ({"space": "input", "threshold": 5}, "mean error per image (input px)", 10),
        ({"space": "image", "reduction": "vector_norm"}, "norm of the error vector / K per image (image px)", 2.4),
        ({"space": "mm", "threshold": 2}, "mean error per image (mm)", 4),
    ],
)
def test_ced_axes_name_the_reading(arguments: dict, label: str, right: float) -> None:
    axes = plot_ced(ERRORS, **arguments).axes[0]
    assert axes.get_xlabel() == label
    assert axes.get_xlim() == (0, right)


def test_ced_curves_of_many_methods_differ_in_colour_and_style() -> None:
    figure = plot_ced({f"method {i}": ERRORS["FT"] for i in range(28)})
    # _dash_pattern is what is drawn; get_linestyle gives '--' for every tuple of dashes.
    looks = {(line.get_color(), str(line._dash_pattern)) for line in figure.axes[0].lines[:-1]}
    assert len(looks) == 28


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"errors_by_method": {}}, "at least one method"),
        ({"errors_by_method": {"FT": np.array([])}}, "no image"),
        ({"space": "pixels"}, "got 'pixels'"),
        ({"reduction": "rms"}, "got 'rms'"),
        ({"threshold": -1}, "got -1"),
    ],
)
def test_ced_refuses_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_ced(**{"errors_by_method": ERRORS, **arguments})


SIZES = ((64, 96), (80, 40))  # (H, W) of two images
RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, size=(*size, 3), dtype=np.uint8) for size in SIZES]
TARGET = RNG.uniform(5, 35, size=(2, 3, 2))
PREDICTIONS = {name: TARGET + RNG.normal(size=TARGET.shape) for name in ("FT", "CTD-CD", "CTD-ED")}
HEATMAPS = {name: gaussian_heatmaps(points / 4, size=(24, 16)).sum(axis=1) for name, points in PREDICTIONS.items()}
VISIBLE = np.array([[True, False, True], [True, True, True]])


def points_in(axes: Axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def segments_in(axes: Axes) -> np.ndarray:
    (lines,) = [item for item in axes.collections if isinstance(item, LineCollection)]
    return np.array(lines.get_segments())


@pytest.mark.parametrize("heatmaps", [None, HEATMAPS])
@pytest.mark.parametrize("visible", [None, VISIBLE])
def test_qualitative_shows_the_given_points(visible: np.ndarray | None, heatmaps: dict | None) -> None:
    figure = plot_qualitative(IMAGES, TARGET, PREDICTIONS, heatmaps, visible)
    pictures = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title() for axes in pictures] == ["ground truth", *PREDICTIONS, "", "", "", ""]
    shown = np.ones((2, 3), dtype=bool) if visible is None else visible
    for row, image in enumerate(IMAGES):
        truth_axes, *method_axes = pictures[4 * row : 4 * row + 4]
        truth = TARGET[row, shown[row]]
        assert list(points_in(truth_axes)) == ["ground truth"]
        np.testing.assert_array_equal(points_in(truth_axes)["ground truth"], truth)
        for axes, points in zip(method_axes, PREDICTIONS.values(), strict=True):
            predicted = points[row, shown[row]]
            np.testing.assert_array_equal(axes.images[0].get_array(), image)
            np.testing.assert_array_equal(points_in(axes)["ground truth"], truth)
            np.testing.assert_array_equal(points_in(axes)["prediction"], predicted)
            np.testing.assert_array_equal(segments_in(axes), np.stack([truth, predicted], axis=1))
    assert png_size(figure) > 1000


def test_qualitative_lays_heatmaps_over_the_grey_images() -> None:
    figure = plot_qualitative(IMAGES, TARGET, PREDICTIONS, HEATMAPS)
    below = [axes for axes in figure.axes if not axes.lines]
    plain, overlays = below[::4], [axes for index, axes in enumerate(below) if index % 4]
    for axes, image in zip(plain, IMAGES, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
    expected = [(row, name) for row in range(2) for name in PREDICTIONS]
    for axes, (row, name) in zip(overlays, expected, strict=True):
        (height, width), grey, heatmap = SIZES[row], *axes.images
        np.testing.assert_array_equal(heatmap.get_array(), HEATMAPS[name][row])
        np.testing.assert_allclose(grey.get_array(), IMAGES[row] @ [0.299, 0.587, 0.114])
        assert heatmap.get_clim() == (0, max(stack.max() for stack in HEATMAPS.values()))
        assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, width - 0.5), (height - 0.5, -0.5))


@pytest.mark.parametrize("size", [(64, 96), (80, 48)])
@pytest.mark.parametrize("cell", [(2, 2), (10, 7), (21, 13)])
def test_heatmap_cells_are_rendered_at_their_image_coordinates(cell: tuple[int, int], size: tuple[int, int]) -> None:
    """Centre i of the heatmap's W' cells is drawn at the image coordinate i * W / W'."""
    stack = np.zeros((1, 16, 24))
    stack[0, cell[1], cell[0]] = 1
    points = np.zeros((1, 1, 2))
    figure = plot_qualitative([np.zeros((*size, 3), np.uint8)], points, {"FT": points}, {"FT": stack})
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = next(axes for axes in figure.axes if len(axes.images) == 2)
    pixels = np.asarray(canvas.buffer_rgba())[::-1]  # rows from the bottom, as in display coordinates
    left, bottom, right, top = np.rint(axes.bbox.extents).astype(int)
    weight = pixels[bottom + 1 : top - 1, left + 1 : right - 1, 0].astype(float)  # red, on a black image
    rows, columns = np.indices(weight.shape)
    centre = [(columns * weight).sum() / weight.sum() + left + 1.5, (rows * weight).sum() / weight.sum() + bottom + 1.5]
    expected = [cell[0] * size[1] / 24, cell[1] * size[0] / 16]
    np.testing.assert_allclose(axes.transData.inverted().transform(centre), expected, atol=0.5)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_heatmaps_without_a_positive_value_are_transparent(value: float) -> None:
    figure = plot_qualitative(IMAGES, TARGET, {"FT": TARGET}, {"FT": np.full((2, 8, 8), value)})
    overlays = [axes.images[1] for axes in figure.axes if len(axes.images) == 2]
    assert [overlay.get_alpha().max() for overlay in overlays] == [0, 0]
    assert png_size(figure) > 1000


def test_qualitative_labels() -> None:
    figure = plot_qualitative(IMAGES, TARGET, PREDICTIONS, HEATMAPS, row_labels=["first", "second"])
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["first", "second"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ground truth", "prediction"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": []}, "R >= 1 images.*for 0 images"),
        ({"images": IMAGES[:1]}, r"got \(2, 3, 2\) for 1 images"),
        ({"images": [IMAGES[0], IMAGES[1] / 255]}, r"images\[1\] must be uint8 .*got float64"),
        ({"images": [IMAGES[0][..., 0], IMAGES[1]]}, r"images\[0\] must be .*got uint8 of shape \(64, 96\)"),
        ({"target": TARGET[0]}, r"got \(3, 2\)"),
        ({"visible": VISIBLE[:, :2]}, r"\(2, 3\), got bool \(2, 2\)"),
        ({"visible": VISIBLE.astype(int)}, "visible must be bool"),
        ({"predictions": {}}, "at least one method"),
        ({"predictions": {"FT": TARGET[:, :2]}}, r"predictions\['FT'\] .*\(2, 3, 2\), got \(2, 2, 2\)"),
        ({"heatmaps": {"FT": HEATMAPS["FT"]}}, "same methods"),
        ({"heatmaps": {**HEATMAPS, "FT": HEATMAPS["FT"][:1]}}, r"heatmaps\['FT'\] must be \(2, H, W\)"),
        ({"heatmaps": {**HEATMAPS, "FT": HEATMAPS["FT"][:, None]}}, "summed over the landmarks"),
        ({"row_labels": ["one"]}, "row_labels must name all 2 images, got 1"),
    ],
)
def test_qualitative_refuses_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_qualitative(**{"images": IMAGES, "target": TARGET, "predictions": PREDICTIONS, **arguments})


def test_pyplot_is_not_imported() -> None:
    code = (
        "import io, sys, numpy as np\n"
        "from xtask_reg.landmarks.plots import plot_ced, plot_qualitative\n"
        "plot_ced({'FT': np.ones(3)}).savefig(io.BytesIO())\n"
        "points = np.zeros((1, 2, 2))\n"
        "plot_qualitative([np.zeros((8, 8, 3), np.uint8)], points, {'FT': points}).savefig(io.BytesIO())\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "False"
