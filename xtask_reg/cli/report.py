"""``xtask-reg report``."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtask_reg.cli.options import by_name

if TYPE_CHECKING:
    from xtask_reg.landmarks.predictions import Predictions


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report", help="write one HTML page about runs: scores, curves, pictures, configs, versions"
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a work folder of tools/train.py")
    parser.add_argument(
        "--html", type=Path, required=True, metavar="OUT.html", help="HTML file to write; it needs no other files"
    )
    parser.add_argument("--title", default="Landmark runs", help="heading of the page (default: %(default)s)")
    parser.add_argument("--no-pictures", action="store_true", help="show no test images")
    parser.add_argument("--json", action="store_true", help="print one JSON object: the scores of each run")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from xtask_reg.report_page.comparisons import comparisons
    from xtask_reg.report_page.page import render_page
    from xtask_reg.report_page.run import read_run
    from xtask_reg.whole_file import whole_file

    with whole_file(options.html) as part:
        runs = [read_run(name, folder) for name, folder in by_name(options.runs).items()]
        compared = list(comparisons(runs))
        page = render_page(runs, compared, options.title, not options.no_pictures)
        part.write_text(page, encoding="utf-8", errors="backslashreplace")
    if options.json:
        scores = {run.name: _scores(run.predictions) if run.predictions else None for run in runs}
        differences = [asdict(comparison) for comparison in compared]
        print(json.dumps(_known({"page": str(options.html), "runs": scores, "differences": differences})))
        return
    for run in runs:
        print(f"{run.name}: {run.predictions.scores if run.predictions else 'not tested'}")
    print(f"written {options.html}, {len(page) / 1e6:.1f} MB")


def _scores(predictions: Predictions) -> dict[str, Any]:
    rates = {f"{distance:g}": rate for distance, rate in predictions.success_rates.items()}
    landmarks = [asdict(error) for error in predictions.by_landmark]
    return {**asdict(predictions.scores), "success_rates": rates, "landmarks": landmarks}


def _known(value: Any) -> Any:
    """The value, or None for NaN, which JSON lacks: a single image has no standard deviation."""
    if isinstance(value, dict):
        return {key: _known(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_known(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
