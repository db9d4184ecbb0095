"""Table and figure of what is kept of the source's task, and what that costs on the new one."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from grid.figures import MARKERS
from grid.report import Comparison, comparison_cells
from xtask_reg.palette import COLOURS

DRAWN = 40
"""Methods are drawn up to so many percent of additional error over FT."""
MEASURES = {"accuracy": "accuracy of the source's classifier, %", "verification_auc": "verification, AUC"}
_DOSE = r"[\d.]+(?:e-\d+)?"
FROZEN = "FE"
"""The method whose encoder stays the source's."""


def kept_table(lines: pd.DataFrame, rows: pd.DataFrame, against: Mapping[tuple[str, int], Comparison]) -> str:
    """What each method keeps, and its error, as Markdown.

    Args:
        lines: the trainings after which the source's task was tested.
        rows: their test images.
        against: their comparisons, from :func:`grid.report.differences`.
    """
    head = f"method | {MEASURES['accuracy']} | range | {MEASURES['verification_auc']} | ME | change in error from FT, %"
    table = [f"| {head} | less error in | adjusted p |", "|" + "---|" * 8]
    for name, own in _by_dose(lines).groupby("label", sort=False):
        error, key = rows[rows.label == name].error.mean(), (name, own.n_labels.iloc[0])
        change = comparison_cells(against[key]) if key in against else f" | {len(own)} trainings | "
        table.append(f"| {name} | {_known(own)} | {error:.3f} | {change} |")
    return "\n".join(table)


def strangers_table(lines: pd.DataFrame) -> str:
    """What each method keeps for people whom no term has seen, as Markdown."""
    table = [f"| method | {MEASURES['accuracy']} | range | {MEASURES['verification_auc']} |", "|" + "---|" * 4]
    table += [f"| {name} | {_known(own)} |" for name, own in _by_dose(lines).groupby("label", sort=False)]
    return "\n".join(table)


def _known(lines: pd.DataFrame) -> str:
    """Three cells: what is left of the source's task after one method's trainings."""
    percent = 100 * lines.accuracy
    return f"{percent.mean():.1f} | {percent.min():.1f} to {percent.max():.1f} | {lines.verification_auc.mean():.3f}"


def draw_kept(lines: pd.DataFrame, against: Mapping[tuple[str, int], Comparison]) -> Figure:
    """What is kept of the source's task over the change of the error; the doses of a constraint are connected."""
    percent = {name: found.percent.mean for (name, _), found in against.items()} | {"FT": 0.0}
    measured = lines.assign(accuracy=100 * lines.accuracy)
    points = _by_dose(measured).groupby("label", sort=False)[[*MEASURES]].mean()
    points["change"] = pd.Series(percent)
    drawn = points[points.change.abs() < DRAWN]
    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (measure, name) in zip(panels, MEASURES.items()):
        axes.axhline(points[measure][FROZEN], color="0.3", linewidth=0.8, linestyle="--", label="the source itself")
        for index, (constraint, own) in enumerate(drawn.groupby(_without_dose(drawn.index), sort=False)):
            look = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index]}
            axes.plot(own.change, own[measure], label=constraint, **look)
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set(xlabel="change in landmark error from FT, %", ylabel=name)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def _by_dose(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines with the doses of a constraint sorted by weight."""
    constraints = pd.Categorical(_without_dose(lines.label), _without_dose(lines.label).unique())
    doses = lines.label.str.extract(f" ({_DOSE})(?=,|$)")[0].astype(float)
    return lines.assign(constraint=constraints, dose=doses).sort_values(["constraint", "dose"], kind="stable")


def _without_dose(labels: pd.Index | pd.Series) -> pd.Index | pd.Series:
    """``CTD-ED, random teacher`` for ``CTD-ED 0.002, random teacher``."""
    return labels.str.replace(f" {_DOSE}(?=,|$)", "", regex=True)
