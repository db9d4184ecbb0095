"""benchmarks/step_scale.py with a tiny network; its tables and picture from the results alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest
import step_scale
from mmpose.models import ResNet
from steps import processes, scale_report
from steps.names import FLOOR, LOSSES, OURS, PLAIN, TEACHER
from steps.networks import CASES, RESNET_STAGES, Case

TINY = Case(lambda: ResNet(18, base_channels=8, out_indices=(0, 1, 2, 3)), 64, RESNET_STAGES, 32)


def write(file: Path, records: list[dict[str, object]]) -> Path:
    file.write_text("".join(json.dumps(each) + "\n" for each in records))
    return file


def test_tables_by_hand(tmp_path: Path) -> None:
    seconds = {
        PLAIN: [0.1, 0.1, 0.1],
        FLOOR: [0.2, 0.2, 0.2],
        OURS: [0.21, 0.18, 0.22],
        TEACHER: [0.09, 0.09, 0.09],
        LOSSES: [0.01, 0.01, 0.01],
    }
    point = {"batch": 4, "side": 128, "terms": 1, "teachers": 1, "seconds": seconds}
    twice = {
        **point,
        "batch": 8,
        "seconds": {name: [2 * value for value in values] for name, values in seconds.items()},
    }
    ddp = [
        {"processes": count, "method": name, "seconds": [value] * 3}
        for name, values in {PLAIN: (0.1, 0.125), OURS: (0.2, 0.25)}.items()
        for count, value in zip((1, 2), values)
    ]
    results = scale_report.read(write(tmp_path / "results.jsonl", [twice, point, {**point, "terms": 4}, *ddp]))
    page = scale_report.points_table(results) + scale_report.processes_table(results)
    assert "| 4 | 128 | 1 | 1 | 1.000 | 0.900 | 0.100 | 2.000 | 2.100 | 1.050 | 1.050 | 0.100 |" in page
    assert "| 8 | 128 | 1 | 1 | 2.000 | 1.800 | 0.200 | 4.000 | 4.200 | 1.050 | 1.050 | 0.200 |" in page
    assert "| FT | 1.00 | 1.25 | 0.80 |" in page
    assert "| xtask_reg | 2.00 | 2.50 | 0.80 |" in page


def test_whole_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, step_scale.CASE, TINY)
    monkeypatch.setattr(step_scale, "USUAL", {"batch": 2, "side": 32, "terms": 1, "teachers": 1})
    monkeypatch.setattr(step_scale, "SWEPT", {"batch": (3,), "terms": (8,), "teachers": (2,)})
    results = tmp_path / "results.jsonl"
    monkeypatch.setattr(sys, "argv", ["step_scale.py", "--seconds", "0", "--results", str(results)])
    step_scale.main()
    points = [json.loads(line) for line in results.read_text().splitlines()]
    assert [tuple(each[name] for name in scale_report.POINT) for each in points] == [
        (2, 32, 1, 1),
        (3, 32, 1, 1),
        (2, 32, 8, 1),
        (2, 32, 1, 2),
    ]
    read = scale_report.read(results)
    assert "| 2 | 32 | 8 | 1 |" in scale_report.points_table(read)
    picture = tmp_path / "picture.png"
    scale_report.draw(read).savefig(picture)
    assert cv2.imread(str(picture)).std() > 20


@pytest.mark.slow
@pytest.mark.parametrize("method", [PLAIN, OURS])
def test_two_processes(method: str) -> None:
    found = processes.seconds_of_a_step(method, "ResNet-18, 128 px", batch=1, processes=2, budget=0)
    assert len(found) == 3
    assert min(found) > 0
