"""Pictures of the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grid.statistics import Estimate, bootstrap
from xtask_reg.landmarks.plots import plot_ced
from xtask_reg.palette import COLOURS, LINE_STYLES

LIMIT = 20
"""Percent beyond which a difference is written instead of drawn."""


def _look(index: int) -> dict[str, object]:
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINE_STYLES[index % len(LINE_STYLES)]}


def error_by_labels(rows: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Mean error against the number of labels, with 95 % bands."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for index, name in enumerate(names):
        own = rows[rows.label == name]
        found = {n_labels: bootstrap(each, "error") for n_labels, each in own.groupby("n_labels")}
        labels = [*found]
        axes.plot(labels, [each.mean for each in found.values()], marker="o", label=name, **_look(index))
        bounds = ([each.low for each in found.values()], [each.high for each in found.values()])
        axes.fill_between(labels, *bounds, color=COLOURS[index % len(COLOURS)], alpha=0.08, linewidth=0)
    ticks = sorted(rows.n_labels.unique())
    axes.set(xscale="log", xlabel="labelled images", ylabel="mean error, heatmap px")
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    _finish(figure, axes)
    return figure


def forest(differences: Mapping[tuple[str, int], Estimate]) -> Figure:
    """The differences to FT with their intervals, one panel for each number of labels."""
    counts = sorted({n_labels for _, n_labels in differences})
    names = list(dict.fromkeys(name for name, _ in differences))
    figure = Figure(figsize=(2.2 + 2.8 * len(counts), 1.2 + 0.3 * len(names)), layout="constrained")
    for axes, n_labels in zip(figure.subplots(1, len(counts), squeeze=False, sharey=True, sharex=True)[0], counts):
        for height, name in enumerate(names):
            if (name, n_labels) in differences:
                _interval(axes, height, differences[name, n_labels])
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set(title=f"{n_labels} labels", xlabel="error against FT, %", xlim=(-LIMIT, LIMIT))
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
    return figure


def _interval(axes: Axes, height: int, found: Estimate) -> None:
    colour = COLOURS[0] if found.high < 0 else COLOURS[1] if found.low > 0 else "0.45"
    if abs(found.mean) < LIMIT:
        axes.plot([found.low, found.high], [height] * 2, color=colour, linewidth=2)
        axes.plot(found.mean, height, "o", color=colour)
    else:
        side = "right" if found.mean > 0 else "left"
        edge = np.copysign(LIMIT, found.mean)
        axes.text(edge, height, f" {found.mean:+.0f} ", color=colour, ha=side, va="center")


def ced(rows: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Cumulative error distributions over all test images."""
    return plot_ced({name: rows[rows.label == name].error.to_numpy() for name in names})


def curves(lines: pd.DataFrame, names: Sequence[str]) -> Figure:
    """The mean test error on the way through the training, one panel for each number of labels."""
    counts = sorted(lines.n_labels.unique())
    figure = Figure(figsize=(2 + 3 * len(counts), 3.4), layout="constrained")
    panels = figure.subplots(1, len(counts), squeeze=False, sharey=True)[0]
    for axes, n_labels in zip(panels, counts):
        for index, name in enumerate(names):
            own = lines[(lines.label == name) & (lines.n_labels == n_labels)]
            if len(own):
                means = np.mean([*own.curve], axis=0)
                steps = np.linspace(0, own.steps.iloc[0], len(means) + 1)[1:]
                axes.plot(steps, means, marker=".", label=name, **_look(index))
        axes.set(title=f"{n_labels} labels", xlabel="training step")
        axes.grid(color="0.9")
    panels[0].set_ylabel("mean error, heatmap px")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def cost(differences: Mapping[tuple[str, int], Estimate], time: Mapping[str, float]) -> Figure:
    """What a method gains against what it costs: its difference in error beside its training time."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    drawn = {key: found for key, found in differences.items() if key[0] in time and abs(found.mean) < LIMIT}
    counts = sorted({n_labels for _, n_labels in drawn})
    for index, name in enumerate(dict.fromkeys(name for name, _ in drawn)):
        for shift, n_labels in enumerate(counts):
            if (name, n_labels) in drawn:
                found = drawn[name, n_labels]
                where = time[name] + 0.004 * (shift - (len(counts) - 1) / 2)
                bounds = [[found.mean - found.low], [found.high - found.mean]]
                label = name if n_labels == counts[0] else None
                colour = COLOURS[index % len(COLOURS)]
                inside = colour if index < len(COLOURS) else "white"
                axes.errorbar(where, found.mean, bounds, fmt="os^D"[shift], color=colour, mfc=inside, label=label)
    axes.axhline(0, color="0.3", linewidth=0.8)
    order = ", ".join(map(str, counts))
    axes.set(xlabel=f"training time, FT = 1; {order} labels from left to right", ylabel="error against FT, %")
    _finish(figure, axes)
    return figure


def _finish(figure: Figure, axes: Axes) -> None:
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
