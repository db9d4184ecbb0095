"""Figures of the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grid.report import Comparison
from xtask_reg.landmarks.plots import plot_ced
from xtask_reg.palette import COLOURS, curve_style

LIMIT = 20
"""Differences beyond so many percent are written instead of drawn."""
MARKERS = "os^Dv<>P*Xph"
SEEN = 1.3
"""Distributions of errors are drawn up to so many heatmap pixels."""


def error_by_labels(rows: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Mean error against the number of labels."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for index, name in enumerate(names):
        means = rows[rows.label == name].groupby("n_labels").error.mean()
        axes.plot(means.index, means, marker=MARKERS[index], markersize=5, label=name, **curve_style(index))
    ticks = sorted(rows.n_labels.unique())
    axes.set(xscale="log", xlabel="labelled images", ylabel="mean error, heatmap px")
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, handlelength=3.5)
    return figure


def forest(differences: Mapping[tuple[str, int], Comparison], limit: float = LIMIT) -> Figure:
    """The differences to FT with their intervals, one panel for each number of labels; the clear ones in colour.

    Args:
        differences: by method and number of labels.
        limit: of the axes, in percent; a larger difference is written out.
    """
    counts = sorted({n_labels for _, n_labels in differences})
    names = list(dict.fromkeys(name for name, _ in differences))
    figure = Figure(figsize=(2.2 + 2.8 * len(counts), 1.2 + 0.3 * len(names)), layout="constrained")
    for axes, n_labels in zip(figure.subplots(1, len(counts), squeeze=False, sharey=True, sharex=True)[0], counts):
        for height, name in enumerate(names):
            if (name, n_labels) in differences:
                _interval(axes, height, differences[name, n_labels], limit)
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set(title=f"{n_labels} labels", xlabel="change in error from FT, %", xlim=(-limit, limit))
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
    return figure


def _interval(axes: Axes, height: int, comparison: Comparison, limit: float) -> None:
    found = comparison.percent
    colour = "0.45" if not comparison.is_clear else COLOURS[0] if found.mean < 0 else COLOURS[1]
    if abs(found.mean) < limit:
        axes.plot([found.low, found.high], [height] * 2, color=colour, linewidth=2)
        axes.plot(found.mean, height, "o", color=colour)
        for edge, is_beyond, arrow in ((-limit, found.low < -limit, "<"), (limit, found.high > limit, ">")):
            if is_beyond:
                axes.plot(edge, height, arrow, color=colour, clip_on=False)
    else:
        side = "right" if found.mean > 0 else "left"
        edge = np.copysign(limit, found.mean)
        text = f" {found.mean:+.0f} ({found.low:+.0f} to {found.high:+.0f}) "
        axes.text(edge, height, text, color=colour, ha=side, va="center")


def ced(rows: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Cumulative error distributions over all test images."""
    figure = plot_ced({name: rows[rows.label == name].error.to_numpy() for name in names})
    figure.axes[0].set_xlim(0, SEEN)
    return figure


def curves(lines: pd.DataFrame, names: Sequence[str]) -> Figure:
    """The mean test error during training, one panel for each number of labels."""
    counts = sorted(lines.n_labels.unique())
    figure = Figure(figsize=(2 + 3 * len(counts), 3.4), layout="constrained")
    panels = figure.subplots(1, len(counts), squeeze=False, sharey=True)[0]
    for axes, n_labels in zip(panels, counts):
        for index, name in enumerate(names):
            own = lines[(lines.label == name) & (lines.n_labels == n_labels)]
            if len(own):
                means = np.mean([*own.curve], axis=0)
                steps = np.linspace(0, own.steps.iloc[0], len(means) + 1)[1:]
                axes.plot(steps, means, marker=MARKERS[index], markersize=4, label=name, **curve_style(index))
        axes.set(title=f"{n_labels} labels", xlabel="training step")
        axes.grid(color="0.9")
    panels[0].set_ylabel("mean error, heatmap px")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, handlelength=3.5)
    return figure


def cost(differences: Mapping[tuple[str, int], Comparison], time: Mapping[str, float]) -> Figure:
    """The benefit of each method against its cost: the difference in error over the training time."""
    drawn = {key: found.percent for key, found in differences.items() if key[0] in time}
    drawn = {key: found for key, found in drawn.items() if abs(found.mean) < LIMIT}
    counts = sorted({n_labels for _, n_labels in drawn})
    figure = Figure(figsize=(2 + 3 * len(counts), 3.6), layout="constrained")
    panels = figure.subplots(1, len(counts), squeeze=False, sharex=True, sharey=True)[0]
    for axes, n_labels in zip(panels, counts):
        for index, name in enumerate(dict.fromkeys(name for name, _ in drawn)):
            if (name, n_labels) in drawn:
                found = drawn[name, n_labels]
                bounds = [[found.mean - found.low], [found.high - found.mean]]
                axes.errorbar(
                    time[name], found.mean, bounds, fmt=MARKERS[index], color=COLOURS[index % len(COLOURS)], label=name
                )
        axes.axhline(0, color="0.3", linewidth=0.8)
        axes.set(title=f"{n_labels} labels", xlabel="training time, FT = 1")
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
    panels[0].set_ylabel("change in error from FT, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, handlelength=3.5)
    return figure
