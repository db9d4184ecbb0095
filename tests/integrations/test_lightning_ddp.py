"""A LightningModule with a regularizer in two real processes (gloo, CPU)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_case import Plain, source
from same_tensors import assert_same

PROGRAM = Path(__file__).parent / "plugins/lightning_ranks.py"
Run = Callable[[Path, str], subprocess.CompletedProcess[str]]


def start(folder: Path, what: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), str(folder), *filter(None, [what])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def found(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    result = start(folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def test_both_processes_agree(whole):
    """Also after a term has ended; each has seen its own part of the batches."""
    first, second = found(whole)
    for key in ("student", "regularizer", "teacher"):
        assert_same(first[key], second[key])
    assert first["weights"] == second["weights"]
    assert first["weights"][0]["ed"] == 0.5 > first["weights"][-1]["ed"] == 0
    assert first["weights"][0]["cd"] == 0 < first["weights"][-1]["cd"]
    assert len(first["sums"]) == 12
    assert set(first["sums"]).isdisjoint(second["sums"])


def test_connectors_train_and_the_teacher_does_not(whole):
    first, _ = found(whole)
    assert_same(first["teacher"], source().state_dict())
    trained = first["regularizer"]["terms.cd.student_connector.fc.weight"]
    assert not torch.equal(trained, source().fc.weight)
    checkpoint = torch.load(whole / "epoch=1.ckpt", weights_only=True)
    assert list(checkpoint["state_dict"]) == list(Plain().state_dict())
    assert_same(checkpoint["xtask_reg"], first["regularizer"])


@pytest.mark.slow
def test_killed_process_is_resumed(whole, tmp_path):
    assert start(tmp_path, "kill").returncode != 0
    assert (tmp_path / "epoch=0.ckpt").exists()
    assert not (tmp_path / "0.pt").exists()
    result = start(tmp_path, "resume")
    assert result.returncode == 0, result.stderr[-3000:]
    for resumed, expected in zip(found(tmp_path), found(whole)):
        for key in ("student", "regularizer"):
            assert_same(resumed[key], expected[key])
        assert resumed["weights"] == expected["weights"][6:]
