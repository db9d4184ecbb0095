"""What is kept of the source's task beside what it costs on the new one: table and picture."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from grid.figures import MARKERS
from grid.report import Comparison, comparison_cells
from xtask_reg.palette import COLOURS

DRAWN = 40
"""Percent of FT's error up to which a method is drawn."""
FROZEN = "FE"
"""Its encoder is the source's, and so is what it knows."""


def kept_table(lines: pd.DataFrame, rows: pd.DataFrame, against: Mapping[tuple[str, int], Comparison]) -> str:
    """What each method keeps, and its error, as Markdown.

    Args:
        lines: the trainings after which the source's task was tested.
        rows: the images of these.
        against: what :func:`grid.report.differences` gives of them.
    """
    head = "method | source's classifier, right in % | least to most | verification, AUC | ME | error to FT, %"
    table = [f"| {head} | less error in | p, adjusted |", "|" + "---|" * 8]
    for (name, n_labels), own in lines.groupby(["label", "n_labels"], sort=False):
        error, key = rows[rows.label == name].error.mean(), (name, n_labels)
        change = comparison_cells(against[key]) if key in against else f" | {len(own)} trainings | "
        percent = 100 * own.accuracy
        table.append(
            f"| {name} | {percent.mean():.1f} | {percent.min():.1f} to {percent.max():.1f} "
            f"| {own.verification_auc.mean():.3f} | {error:.3f} | {change} |"
        )
    return "\n".join(table)


def draw_kept(lines: pd.DataFrame, against: Mapping[tuple[str, int], Comparison]) -> Figure:
    """What is kept of the source's task, against the change of the error; the doses of a constraint are joined."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    percent = {name: found.percent.mean for (name, _), found in against.items()} | {"FT": 0.0}
    points = lines.groupby("label", sort=False).accuracy.mean().mul(100).to_frame("accuracy")
    points["change"] = pd.Series(percent)
    axes.axhline(points.accuracy[FROZEN], color="0.3", linewidth=0.8, linestyle="--", label="the source itself")
    drawn = points[points.change.abs() < DRAWN]
    for index, (name, own) in enumerate(drawn.groupby(_without_dose(drawn.index), sort=False)):
        axes.plot(own.change, own.accuracy, f"{MARKERS[index]}-", color=COLOURS[index % len(COLOURS)], label=name)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set(xlabel="error of the landmarks against FT, %", ylabel="source's classifier, right in %")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _without_dose(labels: pd.Index) -> pd.Index:
    """``CTD-ED 0.002, random teacher`` is ``CTD-ED, random teacher``."""
    return labels.str.replace(r" [\d.]+(?=,|$)", "", regex=True)
