"""Tables and pictures of docs/performance.md and docs/steps.md, from the results of step_cost.py, step_scale.py,
job_cost.py and loader_cost.py alone.

python benchmarks/step_report.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
from marked_page import fill
from matplotlib.figure import Figure
from steps import job_report, report, scale_report

REPOSITORY = Path(__file__).parent.parent


def tables(results: Path) -> dict[str, dict[str, str]]:
    """The tables by name, for each page, without those of missing result files."""
    steps = dict(_by_device(results / "step_cost.jsonl"))
    every = {f"settings{suffix}": report.settings_tables(measured) for suffix, measured in steps.items()}
    return {"performance.md": _compared(steps) | _others(results), "steps.md": every}


def _compared(steps: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    found: dict[str, str] = {}
    for suffix, measured in steps.items():
        found |= {
            f"targets{suffix}": report.targets_table(measured),
            f"options{suffix}": report.options_table(measured),
        }
        if suffix:  # absolute times are shown only for GPUs
            found["throughput"] = report.throughput_table(measured)
    return found


def _others(results: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    scale, job, loader = (results / name for name in ("step_scale.jsonl", "job_cost.jsonl", "loader_cost.json"))
    if scale.exists():
        measured = scale_report.read(scale)
        found["points"] = scale_report.points_table(measured)
        if "processes" in measured:
            found["processes"] = scale_report.processes_table(measured)
    if job.exists():
        found["job"] = job_report.table(job_report.read(job))
    if loader.exists():
        waited = json.loads(loader.read_text())["milliseconds"]
        found["collation"] = job_report.loader_table(waited["collation"], "batch", job_report.COLLATIONS)
        found["workers"] = job_report.loader_table(waited["workers"], "workers", job_report.WORKERS)
    return found


def pictures(results: Path) -> dict[str, Figure]:
    """The pictures by file name."""
    drawn = {f"step_cost{suffix}.png": report.draw(own) for suffix, own in _by_device(results / "step_cost.jsonl")}
    scale = results / "step_scale.jsonl"
    return drawn | ({"step_scale.png": scale_report.draw(scale_report.read(scale))} if scale.exists() else {})


def _by_device(path: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """The results of ``step_cost.py`` for each device, with the suffix of its marks and pictures."""
    if path.exists():
        measured = report.read(path)
        for device, suffix in {"cpu": "", "cuda": "_gpu"}.items():
            if device in set(measured.device):
                yield suffix, measured[measured.device == device]


def main() -> None:
    """Write tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--docs", type=Path, default=REPOSITORY / "docs", help="folder of the pages")
    arguments = parser.parse_args()
    fill({arguments.docs / page: own for page, own in tables(arguments.results).items() if own})
    for name, figure in pictures(arguments.results).items():
        figure.savefig(arguments.docs / "images" / name, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
