"""Plots of the measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xtask_reg.measuring.run_log import Curves, Points
from xtask_reg.palette import curve_style
from xtask_reg.plain_text import plain_text

PANELS = {
    "cosine": "cosine to the source",
    "cka": "CKA to the source",
    "ratio": "gradient ratio, term : rest",
    "weight": "weight",
}
LOGARITHMIC = ("ratio", "weight")


def plot_measurements(runs: Mapping[str, Curves]) -> Figure:
    """How much of the source is left, stage by stage, and how strongly the terms pull, over the training of each run.

    A stage, or a term, looks the same in all runs. Ratios and weights have a logarithmic axis, with a place for 0.

    Args:
        runs: what :func:`xtask_reg.measuring.run_log.read_log` found, by the name of the run: one column each.

    Raises:
        ValueError: if there is no run, or none has anything to plot.
    """
    kinds = [kind for kind in PANELS if any(kind in curves for curves in runs.values())]
    if not kinds:
        raise ValueError(f"{len(runs)} runs with nothing to plot; expected measurements of {', '.join(PANELS)}")
    figure = Figure(figsize=(3.2 + 3.6 * len(runs), 0.8 + 2.3 * len(kinds)), layout="constrained")
    grid = figure.subplots(len(kinds), len(runs), squeeze=False, sharex="col", sharey="row")
    for axes, kind in zip(grid, kinds):
        _row(axes, kind, [curves.get(kind, {}) for curves in runs.values()])
    for top, bottom, title in zip(grid[0], grid[-1], runs):
        top.set_title(plain_text(title), fontsize=11)
        bottom.set_xlabel("training step")
    return figure


def _row(row: Sequence[Axes], kind: str, columns: Sequence[Mapping[str, Points]]) -> None:
    names = sorted({name for curves in columns for name in curves})
    lines = {}
    for axes, curves in zip(row, columns):
        for name, points in curves.items():
            marker = "." if len(points) == 1 else None
            (lines[name],) = axes.plot(
                *zip(*points), label=plain_text(name), linewidth=1.6, marker=marker, **curve_style(names.index(name))
            )
        axes.grid(alpha=0.25)
    if kind in LOGARITHMIC:
        _set_logarithmic(row[0], [value for curves in columns for points in curves.values() for _, value in points])
    row[0].set_ylabel(PANELS[kind])
    handles = [lines[name] for name in names]
    row[-1].legend(handles=handles, fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)


def _set_logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """Set a logarithmic scale, shared by the row; with zeros, linear below the decade of the smallest other value."""
    smallest = min((value for value in values if value > 0), default=None)
    if smallest is None:
        return
    if min(values) > 0:
        axes.set_yscale("log")
    else:
        linear = 10 ** math.floor(math.log10(smallest))
        axes.set_yscale("symlog", linthresh=linear)
        axes.set_ylim(bottom=-linear / 10)
