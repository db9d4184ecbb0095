"""Pictures of the measurements."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xtask_reg.measuring.run_log import Curves
from xtask_reg.palette import COLOURS, LINE_STYLES

PANELS = {
    "cosine": "cosine to the source",
    "cka": "CKA to the source",
    "ratio": "gradient ratio, term : rest",
    "weight": "weight",
}
LOGARITHMIC = ("ratio", "weight")


def plot_measurements(runs: Mapping[str, Curves]) -> Figure:
    """How much of the source is left, stage by stage, and how strongly the terms pull, over the training of each run.

    Args:
        runs: what :func:`xtask_reg.measuring.run_log.read_log` found, by the name of the run: one column each.

    Raises:
        ValueError: if there is no run.
    """
    if not runs:
        raise ValueError("no runs to plot")
    kinds = [kind for kind in PANELS if any(kind in curves for curves in runs.values())]
    figure = Figure(figsize=(1.5 + 4 * len(runs), 0.8 + 2.3 * len(kinds)), layout="constrained")
    grid = figure.subplots(len(kinds), len(runs), squeeze=False, sharex="col", sharey="row")
    for column, (title, curves) in enumerate(runs.items()):
        grid[0][column].set_title(title, fontsize=11)
        for row, kind in enumerate(kinds):
            _panel(grid[row][column], kind, curves)
        grid[-1][column].set_xlabel("training step")
    for row, kind in enumerate(kinds):
        grid[row][0].set_ylabel(PANELS[kind])
    return figure


def _panel(axes: Axes, kind: str, curves: Curves) -> None:
    for index, (name, points) in enumerate(sorted(curves.get(kind, {}).items())):
        steps, values = zip(*points)
        colour, style = COLOURS[index % len(COLOURS)], LINE_STYLES[index // len(COLOURS) % len(LINE_STYLES)]
        axes.plot(steps, values, label=name, color=colour, linestyle=style, linewidth=1.6)
    if kind in LOGARITHMIC:
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    if curves.get(kind):
        axes.legend(fontsize=8)
