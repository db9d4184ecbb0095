"""The page's figures, each as a data URL."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xtask_reg.data.images import read_image
from xtask_reg.landmarks.plots import plot_ced, plot_qualitative
from xtask_reg.landmarks.predictions import Predictions
from xtask_reg.measuring.plots import plot_measurements
from xtask_reg.measuring.run_log import Points
from xtask_reg.palette import curve_style
from xtask_reg.plain_text import plain_text
from xtask_reg.report_page.run import Run, tested_alike

COLUMNS = 3
QUANTILES = {"best": 0.0, "median": 0.5, "90 %": 0.9, "worst": 1.0}
"""Which images are shown, by the error of the first run."""


def ced_figures(runs: Sequence[Run]) -> Iterator[str]:
    """Cumulative error distributions, one figure for all runs with the same reading of errors."""
    for (reduction, space, threshold, _), group in tested_alike(runs, _reading):
        errors = {name: predictions.errors for name, predictions in group.items()}
        yield _address(plot_ced(errors, threshold, space=space, reduction=reduction))


def curve_figure(runs: Sequence[Run], part: str, xlabel: str) -> str | None:
    """One panel per number of ``'training'`` or ``'validation'``, one line per run; None if there are none."""
    curves: Mapping[str, Mapping[str, Points]] = {run.name: getattr(run, part) for run in runs}
    keys = sorted({key for own in curves.values() for key in own}, key=lambda key: (key == "lr", key))
    if not keys:
        return None
    rows = -(-len(keys) // COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 0.5 + 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    handles = {}
    for axes, key in zip(grid, keys):
        for index, (name, own) in enumerate(curves.items()):
            if key in own:
                marker = "o" if len(own[key]) < 20 else None
                (handles[name],) = axes.plot(
                    *zip(*own[key]), linewidth=1.4, marker=marker, markersize=3, **curve_style(index)
                )
        values = [value for own in curves.values() for _, value in own.get(key, ())]
        if "loss" in key and min(values) > 0 and max(values) > 10 * min(values):
            axes.set_yscale("log")
        axes.set_title(plain_text(key), fontsize=10)
        axes.set_xlabel(xlabel, fontsize=9)
        axes.grid(alpha=0.25)
    for axes in grid[len(keys) :]:
        axes.axis("off")
    names = [plain_text(name) for name in handles]
    figure.legend(handles.values(), names, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    return _address(figure)


def measurement_figure(runs: Sequence[Run]) -> str | None:
    """The similarity to the source and the gradients of the terms; None if no run measured them."""
    measured = {run.name: run.measurements for run in runs if run.measurements}
    return _address(plot_measurements(measured)) if measured else None


def picture_figures(runs: Sequence[Run]) -> Iterator[str]:
    """Some test images with the points of all runs that were tested with the same images.

    Raises:
        FileNotFoundError, ValueError: if an image is no longer there, or cannot be read.
    """
    for _, group in tested_alike(runs, lambda predictions: (tuple(predictions.images), predictions.target.shape)):
        first = next(iter(group.values()))
        order = np.argsort(first.errors)[: np.isfinite(first.errors).sum()]
        places = {int(quantile * (len(order) - 1)): name for name, quantile in reversed(QUANTILES.items())}
        chosen = [order[place] for place in sorted(places)]
        labels = [places[place] for place in sorted(places)]
        images = [read_image(Path(first.images[index]))[..., ::-1] for index in chosen]
        points = {name: predictions.predicted[chosen] for name, predictions in group.items()}
        figure = plot_qualitative(images, first.target[chosen], points, None, first.visible[chosen], labels)
        yield _address(figure)


def _reading(predictions: Predictions) -> tuple[str, str, float, str]:
    reading = predictions.reading
    return reading.reduction, reading.space, reading.threshold, reading.unit


def _address(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
