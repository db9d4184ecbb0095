"""Tables of the results of ``benchmarks/job_cost.py`` and ``benchmarks/loader_cost.py``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from steps.names import PLAIN

COLLATIONS = ("stacked_collate", "pseudo_collate")
WORKERS = ("persistent workers", "new ones")


def read(path: Path) -> pd.DataFrame:
    """The last line of each job in the result file."""
    return pd.read_json(path, lines=True).drop_duplicates(["device", "job"], keep="last")


def table(results: pd.DataFrame) -> str:
    """The jobs in Markdown, compared with plain fine-tuning on the same device; seconds are shown only for a GPU."""
    lines = [
        "| on | tools/train.py | images/s, / FT | waiting for data, % of a step | of an epoch | step, s | images/s |",
        "|" + "---|" * 7,
    ]
    plain = results[results.job == PLAIN].set_index("device").images_per_second
    for _, run in results.iterrows():
        step, rate = np.median(run.step_seconds), run.images_per_second
        waited = np.median(run.data_seconds) / step
        absolute = f"{step:.3f} | {rate:.1f}" if run.device == "cuda" else "|"
        lines.append(
            f"| {run.device} | {run.job} | {rate / plain[run.device]:.2f} "
            f"| {100 * waited:.1f} | {100 * run.waited:.1f} | {absolute} |"
        )
    return "\n".join(lines)


def loader_table(milliseconds: Mapping[str, Mapping[str, list[float]]], heading: str, ways: tuple[str, str]) -> str:
    """How long the first of two ways makes the training wait, relative to the other in the same round, in Markdown."""
    lines = [f"| {heading} | {ways[0]} / {ways[1]} | quartiles |", "|---|---|---|"]
    for number, waited in milliseconds.items():
        first, second = (waited[way] for way in ways)
        lower, median, upper = np.quantile(np.divide(first, second), (0.25, 0.5, 0.75))
        lines.append(f"| {number} | {median:.2f} | {lower:.2f} to {upper:.2f} |")
    return "\n".join(lines)
