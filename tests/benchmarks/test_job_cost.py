"""benchmarks/job_cost.py: what it reads of a log, and the table."""

from __future__ import annotations

import json
from pathlib import Path

import job_cost
from steps import job_report


def test_the_log_is_read_without_the_first_steps_of_an_epoch(tmp_path: Path) -> None:
    steps = [
        {"loss": 0.1, "time": float(step), "data_time": step / 10, "epoch": epoch, "step": step}
        for epoch, own in {1: range(1, 5), 2: range(5, 9)}.items()
        for step in own
    ]
    lines = [*steps, {"landmark/ME": 3.0, "time": 0.5, "data_time": 0.25, "step": 2}]
    log = tmp_path / "now" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert job_cost.times(tmp_path) == {
        "step_seconds": [3.0, 4.0, 7.0, 8.0],
        "data_seconds": [0.3, 0.4, 0.7, 0.8],
        "validation": {"time": 0.5, "data_time": 0.25},
    }


def test_table_by_hand() -> None:
    def run(*seconds: float) -> dict[str, object]:
        return {"step_seconds": seconds, "data_seconds": [0.1] * 3, "validation": {"time": 0.5, "data_time": 0.2}}

    table = job_report.table({"runs": {"FT": run(1.0, 2.0, 3.0), "CTD-ED": run(2.0, 2.5, 4.0)}})
    assert "| CTD-ED | 2.500 | 2.250 to 3.250 | 1.250 | 0.1000 | 4.0 | 0.500 |" in table
