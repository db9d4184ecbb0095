"""Table of the results of ``benchmarks/job_cost.py``."""

from __future__ import annotations

from typing import Any

import numpy as np

from steps.names import PLAIN


def table(results: dict[str, Any]) -> str:
    """The methods in Markdown."""
    lines = [
        "| tools/train.py | step, s | quartiles | / FT | waiting for data, s | of it, % | validation, s a batch |",
        "|" + "---|" * 7,
    ]
    plain = np.median(results["runs"][PLAIN]["step_seconds"])
    for name, run in results["runs"].items():
        lower, median, upper = np.quantile(run["step_seconds"], (0.25, 0.5, 0.75))
        data = np.median(run["data_seconds"])
        lines.append(
            f"| {name} | {median:.3f} | {lower:.3f} to {upper:.3f} | {median / plain:.3f} | {data:.4f} "
            f"| {100 * data / median:.1f} | {run['validation']['time']:.3f} |"
        )
    return "\n".join(lines)
