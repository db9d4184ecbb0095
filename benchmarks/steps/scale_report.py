"""Tables and figure of the results of ``benchmarks/step_scale.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from steps.names import FLOOR, LOSSES, OURS, PLAIN, TEACHER

POINT = ["batch", "side", "terms", "teachers"]


def read(path: Path) -> pd.DataFrame:
    """The lines of the result file."""
    return pd.read_json(path, lines=True)


def by_point(results: pd.DataFrame) -> pd.DataFrame:
    """Medians at each point, the cost model's prediction, and the overhead of ours over the floor.

    The unit of time is the median step of plain fine-tuning at the usual point, around which the others vary.
    """
    own = results[results.batch.notna()].drop_duplicates(POINT, keep="last")
    rows = []
    for _, record in own.iterrows():
        times = {name: np.array(values) for name, values in record.seconds.items()}
        model = times[PLAIN] + times[TEACHER] + times[LOSSES]
        rows.append(
            {name: int(record[name]) for name in POINT}
            | {name: np.median(values) for name, values in times.items()}
            | {"model": np.median(model), "beyond": np.median(times[OURS] - times[FLOOR])}
            | {"ratio": np.median(times[OURS] / times[FLOOR]), "to_model": np.median(times[OURS] / model)}
        )
    points = pd.DataFrame(rows).sort_values(POINT)
    points[[PLAIN, FLOOR, OURS, TEACHER, LOSSES, "model", "beyond"]] /= points.set_index(POINT)[PLAIN][
        tuple(_usual(points))
    ]
    return points


def _usual(points: pd.DataFrame) -> pd.Series:
    """The most frequent value of each thing that varies."""
    return points[POINT].mode().iloc[0]


def points_table(results: pd.DataFrame) -> str:
    """The points with their parts, the cost model's prediction, and the measured step."""
    lines = [
        "| batch | side | terms | teachers | FT | teachers | losses | model | measured | / model | / floor | - floor |",
        "|" + "---|" * 12,
    ]
    for _, row in by_point(results).iterrows():
        where = " | ".join(str(int(row[name])) for name in POINT)
        times = " | ".join(f"{row[name]:.3f}" for name in (PLAIN, TEACHER, LOSSES, "model", OURS))
        lines.append(f"| {where} | {times} | {row.to_model:.3f} | {row.ratio:.3f} | {row.beyond:.3f} |")
    return "\n".join(lines)


def processes_table(results: pd.DataFrame) -> str:
    """Steps in one process and in two, as multiples of plain fine-tuning in one, and the efficiency of the latter."""
    own = results[results.processes.notna()].drop_duplicates(["processes", "method"], keep="last")
    medians = {(int(r.processes), r.method): np.median(r.seconds) for _, r in own.iterrows()}
    lines = ["| | one process | two processes | efficiency |", "|---|---|---|---|"]
    unit = medians[1, PLAIN]
    for method in (PLAIN, OURS):
        one, two = (medians[processes, method] for processes in (1, 2))
        lines.append(f"| {method} | {one / unit:.2f} | {two / unit:.2f} | {one / two:.2f} |")
    return "\n".join(lines)


def draw(results: pd.DataFrame) -> Figure:
    """The measured step of each point over the cost model's prediction."""
    points = by_point(results)
    figure, axis = plt.subplots(figsize=(6, 5))
    usual = _usual(points)
    for name in POINT:
        others = [other for other in POINT if other != name]
        own = points[(points[others] == usual[others]).all(axis=1)].sort_values(name)
        axis.plot(own.model, own[OURS], marker="o", linestyle="none", label=name, alpha=0.8)
        labelled = own[own[name] != usual[name]]
        above = name == "batch"
        for _, row in labelled.iterrows():
            axis.annotate(
                f"{name} {int(row[name])}",
                (row.model, row[OURS]),
                fontsize=7,
                xytext=(-6, 3) if above else (6, -7),
                textcoords="offset points",
                horizontalalignment="right" if above else "left",
            )
    low, high = 0.8 * points.model.min(), 1.4 * points.model.max()
    axis.plot((low, high), (low, high), color="black", linewidth=0.8)
    axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_locator(LogLocator(base=2))
        each.set_major_formatter("{x:g}")
        each.set_minor_formatter(NullFormatter())
    axis.set_xlabel("model: FT + bare teachers + losses (FT at batch 4, 128 px = 1)")
    axis.set_ylabel("measured step")
    axis.legend(title="varied", fontsize=8)
    figure.tight_layout()
    return figure
