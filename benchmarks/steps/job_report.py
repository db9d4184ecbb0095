"""Tables of the results of ``benchmarks/job_cost.py`` and ``benchmarks/loader_cost.py``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from steps.names import PLAIN


def read(path: Path) -> pd.DataFrame:
    """The last line of each job in the result file."""
    return pd.read_json(path, lines=True).drop_duplicates(["device", "job"], keep="last")


def table(results: pd.DataFrame) -> str:
    """The jobs in Markdown, each compared with plain fine-tuning on the same device."""
    lines = [
        "| on | tools/train.py | step, s | quartiles | images/s | / FT | waiting for data, % of a step | of an epoch |",
        "|" + "---|" * 8,
    ]
    plain = results[results.job == PLAIN].set_index("device").images_per_second
    for _, run in results.iterrows():
        lower, median, upper = np.quantile(run.step_seconds, (0.25, 0.5, 0.75))
        waited = np.median(run.data_seconds) / median
        lines.append(
            f"| {run.device} | {run.job} | {median:.3f} | {lower:.3f} to {upper:.3f} | {run.images_per_second:.1f} "
            f"| {run.images_per_second / plain[run.device]:.2f} | {100 * waited:.1f} | {100 * run.waited:.1f} |"
        )
    return "\n".join(lines)


def loader_table(milliseconds: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Medians and quartiles by batch and collation, in Markdown."""
    lines = ["| batch | collation | waiting for a ready batch, ms | quartiles |", "|---|---|---|---|"]
    for size, by_collation in milliseconds.items():
        for collation, values in by_collation.items():
            lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75))
            lines.append(f"| {size} | `{collation}` | {median:.1f} | {lower:.1f} to {upper:.1f} |")
    return "\n".join(lines)
