"""benchmarks/job_cost.py: the times that it reads from a log, and the table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import job_cost
import pytest
from steps import job_report


def test_the_log_by_hand(tmp_path: Path) -> None:
    """The time of a step leaves out the first steps of each epoch; images per second leave out only the first epoch."""
    steps = [
        {"loss": 0.1, "time": float(step), "data_time": step / 10, "epoch": epoch, "step": step}
        for epoch, own in {1: range(1, 5), 2: range(5, 9)}.items()
        for step in own
    ]
    lines = [*steps, {"landmark/ME": 3.0, "time": 0.5, "data_time": 0.25, "step": 2}]
    log = tmp_path / "now" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert job_cost.times(tmp_path, images=13) == {
        "step_seconds": [3.0, 4.0, 7.0, 8.0],
        "data_seconds": [0.3, 0.4, 0.7, 0.8],
        "images_per_second": 0.5,  # 13 images in 5 + 6 + 7 + 8 s
        "waited": pytest.approx(0.1),
        "validation": {"time": 0.5, "data_time": 0.25},
    }


def test_table_by_hand(tmp_path: Path) -> None:
    def run(job: str, device: str, rate: float, *seconds: float) -> str:
        times = {"step_seconds": seconds, "data_seconds": [0.1] * 3, "images_per_second": rate, "waited": 0.25}
        return json.dumps({"job": job, "device": device, **times}) + "\n"

    file = tmp_path / "job_cost.jsonl"
    lines = [
        run("FT", "cpu", 9, 9.0, 9.0, 9.0),
        run("FT", "cpu", 2, 1.0, 2.0, 3.0),
        run("CTD-ED", "cpu", 1, 2.0, 2.5, 4.0),
    ]
    file.write_text("".join([*lines, run("FT", "cuda", 50, 0.1, 0.1, 0.1), run("CTD-ED", "cuda", 100, 0.1, 0.1, 0.1)]))
    table = job_report.table(job_report.read(file))
    assert "| cpu | FT | 1.00 | 5.0 | 25.0 | | |" in table
    assert "| cpu | CTD-ED | 0.50 | 4.0 | 25.0 | | |" in table
    assert "| cuda | CTD-ED | 2.00 | 100.0 | 25.0 | 0.100 | 100.0 |" in table


@pytest.mark.slow
def test_a_job_of_tools_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six images in batches of two: three steps an epoch, of which the first two are left out."""
    out = tmp_path / "job_cost.jsonl"
    chosen = ["--only", "CTD-ED", "--images", "6", "--workers", "0", "--results", str(out)]
    monkeypatch.setattr(sys, "argv", ["job_cost.py", *chosen])
    job_cost.main()
    (found,) = map(json.loads, out.read_text().splitlines())
    assert (found["job"], found["batch"], found["device"]) == ("CTD-ED", 2, "cpu")
    assert len(found["step_seconds"]) == len(found["data_seconds"]) == 2
    assert 0 < found["images_per_second"] < 6 / found["step_seconds"][1]
    assert 0 <= found["waited"] < 1
