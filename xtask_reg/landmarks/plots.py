"""Pictures of landmark results. Every function returns a new ``Figure`` (pyplot is not used); call its ``savefig``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from xtask_reg.landmarks.metrics import Reduction, Space, ced_curve, score_images, unit
from xtask_reg.palette import curve_style
from xtask_reg.plain_text import plain_text

AXIS_LABELS = {"mean_distance": "mean error per image", "vector_norm": "norm of the error vector / K per image"}
TRUTH_COLOUR, PREDICTION_COLOUR = "#56B4E9", "#F0E442"
INCHES_PER_CELL = 2.4


def plot_ced(
    errors_by_method: Mapping[str, np.ndarray],
    threshold: float = 1.2,
    space: Space = "heatmap",
    reduction: Reduction = "mean_distance",
) -> Figure:
    """Cumulative error distributions from 0 to twice the threshold; the legend names AUC and FR of each method.

    Args:
        errors_by_method: image errors ``(N,)`` of :func:`xtask_reg.landmarks.image_errors` by method name; NaN is
            skipped.
        threshold: error above which an image is a failure, drawn as a dashed line.
        space: what the errors count in.
        reduction: the one that the errors were computed with.

    Raises:
        ValueError: no method, or errors, threshold, space or reduction that
            :func:`xtask_reg.landmarks.score_images` refuses.
    """
    if not errors_by_method:
        raise ValueError("errors_by_method is empty, expected image errors of at least one method")
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for index, (name, errors) in enumerate(errors_by_method.items()):
        scores = score_images(errors, reduction=reduction, space=space, threshold=threshold)
        axes.plot(
            *ced_curve(errors, 2 * threshold),
            drawstyle="steps-post",
            linewidth=1.8,
            label=f"{plain_text(name)}\nAUC {scores.auc:.3f}, FR {scores.fr:.2%}",
            **curve_style(index),
        )
    name = f"threshold {threshold:g} {unit(space).split()[-1]}"
    axes.axvline(threshold, color="0.45", linestyle="--", linewidth=1, zorder=1, label=name)
    axes.set(
        xlim=(0, 2 * threshold),
        ylim=(0, 1.01),
        xlabel=f"{AXIS_LABELS[reduction]} ({unit(space)})",
        ylabel="fraction of images",
    )
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def plot_qualitative(
    images: Sequence[np.ndarray],
    target: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    heatmaps: Mapping[str, np.ndarray] | None = None,
    visible: np.ndarray | None = None,
    row_labels: Sequence[str] | None = None,
) -> Figure:
    """Images with their true landmarks, and beside them each method's predictions.

    A thin line leads from each true point to its prediction. Heatmaps are drawn below, over the grey image, in one
    colour scale for the whole figure that goes with the square root from 0 (transparent) to the highest value; below
    the true landmarks is the plain image. Centre i of a heatmap of width w lies at i * W / w in an image of width W,
    whose own pixel centres are 0 .. W - 1.

    Args:
        images: R arrays ``(H, W, 3)`` uint8 RGB, of any sizes.
        target: ``(R, K, 2)`` true points, x and y in image pixels.
        predictions: ``(R, K, 2)`` predicted points in image pixels by method name.
        heatmaps: ``(R, H', W')`` heatmaps summed over the landmarks, by the same names; None leaves them out.
        visible: ``(R, K)`` bool; the other landmarks are not drawn, true or predicted. All if None.
        row_labels: R names of the images.

    Raises:
        ValueError: shapes, numbers or names that do not fit together.
    """
    target = np.asarray(target)
    visible = np.ones(target.shape[:2], dtype=bool) if visible is None else np.asarray(visible)
    _check_qualitative(images, target, predictions, heatmaps, visible, row_labels)
    figure, pictures, overlays = _qualitative_axes(images, len(predictions), with_heatmaps=heatmaps is not None)
    for row, image in enumerate(images):
        true_points = target[row, visible[row]]
        _draw_points(pictures[row][0], image, true_points)
        for axes, points in zip(pictures[row][1:], predictions.values(), strict=True):
            _draw_points(axes, image, true_points, np.asarray(points)[row, visible[row]])
        if row_labels is not None:
            pictures[row][0].set_ylabel(plain_text(row_labels[row]))
    if heatmaps is not None:
        _draw_heatmaps(overlays, images, [np.asarray(heatmaps[name]) for name in predictions])
    for axes, title in zip(pictures[0], ["ground truth", *predictions], strict=True):
        axes.set_title(plain_text(title))
    handles, labels = pictures[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _qualitative_axes(
    images: Sequence[np.ndarray], methods: int, with_heatmaps: bool
) -> tuple[Figure, list[list[Axes]], list[list[Axes]]]:
    """Axes of the pictures (R rows of 1 + methods) and of what lies below them (as many, or no rows)."""
    step = 2 if with_heatmaps else 1
    heights = [image.shape[0] / image.shape[1] for image in images for _ in range(step)]
    width = INCHES_PER_CELL * (1 + methods) + 0.3
    figure = Figure(figsize=(width, INCHES_PER_CELL * sum(heights) + 0.7), layout="compressed")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    axes = figure.subplots(len(heights), 1 + methods, squeeze=False, height_ratios=heights).tolist()
    return figure, axes[::step], axes[1::2] if with_heatmaps else []


def _draw_points(axes: Axes, image: np.ndarray, truth: np.ndarray, predicted: np.ndarray | None = None) -> None:
    _show(axes, image)
    edge = {"linestyle": "none", "markersize": 4.5, "markeredgecolor": "black", "markeredgewidth": 0.4}
    if predicted is not None:
        lines = np.stack([truth, predicted], axis=1)
        axes.add_collection(LineCollection(lines, colors="white", linewidths=0.9), autolim=False)
    axes.plot(*truth.T, marker="o", color=TRUTH_COLOUR, label="ground truth", **edge)
    if predicted is not None:
        axes.plot(*predicted.T, marker="d", color=PREDICTION_COLOUR, label="prediction", **edge)


def _draw_heatmaps(grid: list[list[Axes]], images: Sequence[np.ndarray], stacks: list[np.ndarray]) -> None:
    highest = max(stack.max() for stack in stacks)
    norm = PowerNorm(0.5, vmin=0, vmax=highest if highest > 0 else 1)
    for row, image in enumerate(images):
        _show(grid[row][0], image)
        for axes, stack in zip(grid[row][1:], stacks, strict=True):
            _draw_heatmap(axes, image, stack[row], norm)


def _draw_heatmap(axes: Axes, image: np.ndarray, heatmap: np.ndarray, norm: PowerNorm) -> None:
    luminance = image @ np.array([0.299, 0.587, 0.114])
    _show(axes, luminance, cmap="gray", vmin=0, vmax=255)
    (height, width), (rows, columns) = image.shape[:2], heatmap.shape
    step_x, step_y = width / columns, height / rows
    axes.imshow(
        heatmap,
        cmap="plasma",
        norm=norm,
        alpha=np.clip(4 * heatmap / norm.vmax, 0, 0.85),
        interpolation="bilinear",
        extent=(-0.5 * step_x, width - 0.5 * step_x, height - 0.5 * step_y, -0.5 * step_y),
    )


def _show(axes: Axes, image: np.ndarray, **style: object) -> None:
    axes.imshow(image, **style)
    axes.set(xticks=[], yticks=[], autoscale_on=False)
    axes.spines[:].set_visible(False)


def _check_qualitative(
    images: Sequence[np.ndarray],
    target: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    heatmaps: Mapping[str, np.ndarray] | None,
    visible: np.ndarray,
    row_labels: Sequence[str] | None,
) -> None:
    rows = len(images)
    for row, image in enumerate(images):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"images[{row}] must be uint8 (H, W, 3), got {image.dtype} of shape {image.shape}")
    if rows == 0 or target.ndim != 3 or target.shape[0] != rows or target.shape[2] != 2:
        raise ValueError(f"target must be (R, K, 2) for R >= 1 images, got {target.shape} for {rows} images")
    if visible.shape != target.shape[:2] or visible.dtype != bool:
        raise ValueError(f"visible must be bool of shape {target.shape[:2]}, got {visible.dtype} {visible.shape}")
    if not predictions:
        raise ValueError("predictions is empty, expected the points of at least one method")
    for name, points in predictions.items():
        if np.shape(points) != target.shape:
            raise ValueError(f"predictions[{name!r}] must have target's shape {target.shape}, got {np.shape(points)}")
    if heatmaps is not None and set(heatmaps) != set(predictions):
        raise ValueError(f"heatmaps and predictions must name the same methods: {[*heatmaps]} and {[*predictions]}")
    for name, stack in (heatmaps or {}).items():
        if np.ndim(stack) != 3 or len(stack) != rows:
            raise ValueError(
                f"heatmaps[{name!r}] must be ({rows}, H, W), summed over the landmarks, got {np.shape(stack)}"
            )
    if row_labels is not None and len(row_labels) != rows:
        raise ValueError(f"row_labels must name all {rows} images, got {len(row_labels)}")
