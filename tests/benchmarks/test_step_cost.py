"""benchmarks/step_cost.py with a tiny network; its table and picture from the results alone."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import step_cost
import step_report
import torch
from marked_page import fill, filled
from mmpose.models import ResNet
from steps import measuring, methods, names, report, scale_report
from steps.networks import RESNET_STAGES, Case
from torch import Tensor

REPOSITORY = Path(__file__).parents[2]
REPORT = """
import sys
sys.path.insert(0, sys.argv[1])
import step_report
sys.argv[1:] = ["--results", sys.argv[2], "--docs", sys.argv[2] + "/docs"]
step_report.main()
assert not {"torch", "xtask_reg", "mmpose"} & sys.modules.keys()
"""
"""A process in which only the result file is available."""


def _narrow() -> torch.nn.Module:
    return ResNet(18, base_channels=8, out_indices=(0, 1, 2, 3), zero_init_residual=False)


TINY = Case(_narrow, 64, RESNET_STAGES, 32)


def losses(name: str, steps: int = 3, **given: int) -> list[float]:
    parts = methods.parts(TINY, **given)
    step = methods.step(methods.METHODS[name], parts, torch.float32)
    torch.manual_seed(1)
    images, target = TINY.batch(3)
    found = [step(images, target).item() for _ in range(steps)]
    assert all(parameter.grad.norm() > 0 for parameter in parts.student.parameters())
    assert all(parameter.grad is None for source in parts.sources for parameter in source.parameters())
    return found


@pytest.mark.parametrize("given", [{}, {"terms": 4}, {"terms": 8, "teachers": 2}], ids=str)
def test_all_ways_train_alike(given: dict[str, int]) -> None:
    """Over three steps, so that the gradients must be the same as well."""
    plain, floor = losses(names.PLAIN, **given), losses(names.FLOOR, **given)
    assert losses(names.OFF, **given) == plain
    assert floor[0] - plain[0] > 1e-6
    for name in methods.METHODS.keys() - {names.PLAIN, names.OFF}:
        assert losses(name, **given) == pytest.approx(floor, rel=1e-5), name  # another order of the sums


def test_torchdistill_is_one_of_them() -> None:
    pytest.importorskip("torchdistill")
    assert names.TORCHDISTILL in methods.METHODS


def test_the_floor_is_the_formula() -> None:
    given = methods.parts(TINY)
    images, target = TINY.batch(3)
    student, source = copy.deepcopy(given.student), given.sources[0]
    with torch.no_grad():
        features = student.backbone(images)
        own, theirs = (each[-1].flatten(1).double().numpy() for each in (features, source.backbone(images)))
        task = np.square(student.head(features).numpy() - target.numpy()).mean()
    cosines = (own * theirs).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(theirs, axis=1)
    found = methods.by_hand(given)(images, target)
    assert found.item() == pytest.approx(task + 0.002 * (1 - cosines.mean()), rel=1e-5)


def test_peak_memory_of_known_tensors() -> None:
    mebibyte = 2**18  # floats

    def build() -> measuring.Work:
        weights = torch.zeros(4 * mebibyte)

        def work() -> Tensor:
            once = torch.zeros(8 * mebibyte)
            twice = once + 1
            del once
            return twice + weights[:1]

        return work

    assert measuring.peak_bytes(build, "cpu") / 2**20 == pytest.approx(4 + 8 + 8, abs=0.1)


def test_rounds_have_each_work_once() -> None:
    calls: list[str] = []
    works = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    found = measuring.interleaved(works, "cpu", budget=0)
    assert {name: len(values) for name, values in found.items()} == {"a": 3, "b": 3, "c": 3}
    rounds = [calls[start : start + 3] for start in range(3, 12, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1


def record(times: int = 6, **changes: object) -> dict[str, object]:
    """The floor takes 2 s, FT 1 s; ours is 1, 2 and 4 % above the floor, each ``times`` times."""
    rounds = {
        names.PLAIN: [1.0, 1.0, 1.0],
        names.FLOOR: [2.0, 2.0, 2.0],
        names.OURS: [2.02, 2.08, 2.04],
        names.OFF: [1.02, 1.02, 1.02],
        names.TORCHDISTILL: [2.5, 2.5, 2.5],
    }
    seconds = {name: times * values for name, values in rounds.items()}
    setting = {"case": "net", "batch": 2, "device": "cpu", "precision": "float32", "channels_last": False, "threads": 2}
    return {"measured": "times", **setting, "clock": "wall", "seconds": seconds, **changes}


def test_ratios_and_targets_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    peaks = {names.PLAIN: 9e6, names.FLOOR: 1e7, names.OURS: 1.01e7, names.OFF: 9e6, names.TORCHDISTILL: 1e7}
    records = [record(), record(measured="memory", peak_bytes=peaks, seconds=None)]
    file.write_text("".join(json.dumps(each) + "\n" for each in records))
    results = report.read(file)
    page = report.settings_tables(results) + report.targets_table(results)
    assert "| xtask_reg | 2.040 | 1.020 | 1.010 to 1.040 | 10 | 1.010 |\n" in page
    assert "| step | / FT | / floor | quartiles | peak memory, MB | / floor |\n" in page
    on_gpu = report.settings_tables(pd.DataFrame([record(device="cuda", hardware={"gpu": "one"})]))
    assert "| xtask_reg | 2.040 | 1.020 | 1.010 to 1.040 | 2.04 |\n" in on_gpu
    where = "| net | 2 | float32 |"
    assert f"{where} xtask_reg / floor | 1.020 | 1.010 to 1.040 | 1.02 | not decided |" in page
    assert f"{where} all weights 0 / FT | 1.020 | 1.020 to 1.020 | 1.01 | missed |" in page
    assert f"{where} xtask_reg / torchdistill | 0.816 | 0.808 to 0.832 | 1.0 | met |" in page
    assert f"{where} memory / floor | 1.010 | 1.010 to 1.010 | 1.02 | met |" in page
    few = report.targets_table(pd.DataFrame([record(times=1)]))
    assert f"{where} all weights 0 / FT | 1.020 | only 3 rounds | 1.01 | not decided |" in few


def test_the_interval_of_a_median() -> None:
    """For 20 values the 6th to the 15th: by the binomial table, 6 to 14 of 20 are below the median with 0.9586."""
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, 21.0))
    assert report.interval(shuffled) == (6, 15)
    assert report.interval(np.arange(6.0)) == (0, 5)  # all of them with 1 - 2 / 2**6
    assert report.interval(np.arange(5.0)) == (-np.inf, np.inf)


def test_targets_on_a_gpu() -> None:
    records = pd.DataFrame([record(device="cuda", batch=batch) for batch in (2, 32)])
    bounds = [bound for _, name, _, bound in report.targets(records) if name == "xtask_reg / floor"]
    assert bounds == [1.05, 1.02]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of the script when it measures everything once."""
    monkeypatch.setitem(step_cost.CASES, "tiny", TINY)
    file = tmp_path / "step_cost.jsonl"
    for what in ("times", "options", "memory"):
        command = ["--case", "tiny", "--measure", what, "--options", "teacher in bfloat16", "--seconds", "0"]
        command += ["--results", str(file)]
        monkeypatch.setattr(sys, "argv", ["step_cost.py", *command])
        step_cost.main()
    return file


def test_whole_benchmark(results: Path, tmp_path: Path) -> None:
    records = {each["measured"]: each for each in map(json.loads, results.read_text().splitlines())}
    assert {name: len(values) for name, values in records["times"]["seconds"].items()} == dict.fromkeys(
        methods.METHODS, 3
    )
    assert records["memory"]["peak_bytes"][names.FLOOR] > records["memory"]["peak_bytes"][names.PLAIN] > 1e6
    exact, rounded = records["options"]["term"].values()
    assert 0 < abs(exact - rounded) < 0.02
    assert records["times"]["hardware"]["cores"]
    command = [sys.executable, "-c", REPORT, str(REPOSITORY / "benchmarks"), str(tmp_path)]
    (tmp_path / "docs" / "images").mkdir(parents=True)
    pages = {"performance.md": ("targets", "options"), "steps.md": ("settings",)}
    for page, marks in pages.items():
        empty = "".join(f"# {name}\n<!-- {name} -->\nold\n<!-- end -->\n" for name in marks)
        (tmp_path / "docs" / page).write_text(empty)
    subprocess.run(command, check=True)
    text = "".join((tmp_path / "docs" / page).read_text() for page in pages)
    assert "old" not in text
    assert f"**tiny, batch 2, cpu, float32, {torch.get_num_threads()} thread" in text
    assert cv2.imread(str(tmp_path / "docs" / "images" / "step_cost.png")).std() > 20


def test_a_table_without_a_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="the page has no <!-- targets -->"):
        filled("# Performance\n", {"targets": "| |"})


def test_a_missing_place_leaves_all_pages_as_they_were(tmp_path: Path) -> None:
    first, second = tmp_path / "first.md", tmp_path / "second.md"
    for page in (first, second):
        page.write_text("<!-- own -->\nold\n<!-- end -->\n")
    with pytest.raises(ValueError, match="the page has no <!-- other -->"):
        fill({first: {"own": "new"}, second: {"other": "new"}})
    assert "old" in first.read_text()


def test_the_pages_have_the_tables_of_the_results() -> None:
    found = step_report.tables(REPOSITORY / "benchmarks" / "results")
    assert {"targets", "options"} <= found["performance.md"].keys()
    assert "settings" in found["steps.md"]
    for name, tables in found.items():
        page = (REPOSITORY / "docs" / name).read_text()
        assert filled(page, tables) == page
        assert {*re.findall(r"<!-- (\w+) -->", page)} - {"end"} == tables.keys()


def test_readme_has_the_largest_median() -> None:
    results = REPOSITORY / "benchmarks" / "results"
    steps = report.read(results / "step_cost.jsonl")
    medians = [report.ratio(each, names.OURS, names.FLOOR)[0] for each in steps.seconds.dropna()]
    largest = max([*medians, *scale_report.by_point(scale_report.read(results / "step_scale.jsonl")).ratio])
    assert f"at most {100 * (largest - 1):.0f} % more" in (REPOSITORY / "README.md").read_text()
