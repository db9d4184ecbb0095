"""Renders the page."""

from __future__ import annotations

import difflib
import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from itertools import chain
from typing import Any

import jinja2

from xtask_reg.report_page import figures
from xtask_reg.report_page.comparisons import Comparison
from xtask_reg.report_page.landmarks import landmark_tables
from xtask_reg.report_page.run import PREDICTIONS, Run


def render_page(runs: Sequence[Run], comparisons: Sequence[Comparison], title: str, with_pictures: bool = True) -> str:
    """One HTML document that needs nothing else: scores, CED, landmarks, curves, pictures, configs, versions.

    Args:
        runs: the runs, in this order; the configs of the others are compared with that of the first.
        comparisons: of these runs.
        title: the heading.
        with_pictures: whether to show some test images; not if photographs must not be passed on.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("xtask_reg.report_page", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value: f"{value:.4g}"
    pictures, notes = _pictures(runs) if with_pictures else ([], ["Pictures were left out."])
    untested = [run.name for run in runs if run.predictions is None]
    if untested:
        notes.append(
            f"Without {PREDICTIONS}, and so without test scores: {', '.join(untested)}. "
            f"tools/test.py writes it with --cfg-options test_evaluator.outfile=<work folder>/{PREDICTIONS}."
        )
    return environment.get_template("page.html").render(
        title=title,
        runs=runs,
        notes=notes,
        last={run.name: {key: points[-1] for key, points in run.validation.items()} for run in runs},
        validated=list(dict.fromkeys(chain.from_iterable(run.validation for run in runs))),
        success_at=sorted({each for run in runs if run.predictions for each in run.predictions.success_rates}),
        ced=list(figures.ced_figures(runs)),
        comparisons=comparisons,
        landmarks=list(landmark_tables(runs)),
        validation=figures.curve_figure(runs, "validation", "epoch"),
        training=figures.curve_figure(runs, "training", "training step"),
        measurements=figures.measurement_figure(runs),
        pictures=pictures,
        differences={run.name: _difference(runs[0], run) for run in runs[1:]},
        version_names=list(dict.fromkeys(chain.from_iterable(run.versions for run in runs))),
        made=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        made_by={"xtask-reg": version("xtask-reg"), "Python": platform.python_version()},
    )


def _difference(first: Run, other: Run) -> str:
    lines = difflib.unified_diff(
        first.config.splitlines(), other.config.splitlines(), first.name, other.name, n=1, lineterm=""
    )
    return "\n".join(lines)


def _pictures(runs: Sequence[Run]) -> tuple[list[str], list[Any]]:
    try:
        return list(figures.picture_figures(runs)), []
    except (OSError, ValueError) as error:
        return [], [f"No pictures: {error}"]
