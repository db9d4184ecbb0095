"""docs/torchrun.md: its script runs alone, under torchrun, and again after it was killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

import xtask_reg as xr

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/torchrun.md").read_text()
SCRIPT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
ALONE = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LAUNCHERS = pytest.mark.parametrize(("launcher", "processes"), [(ALONE, 1), (TWO, 2)], ids=["alone", "two"])
STEP = "        optimizer.step()\n"
KILL = """        if epoch == 1 and step == 1 and rank == processes - 1:
            os.kill(os.getpid(), 9)
"""


def run(folder: Path, launcher: list[str], script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(script)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    command = [*launcher, "train.py"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def sums(output: str) -> dict[str, str]:
    """The final output of each process, perhaps both on one line."""
    return dict(re.findall(r"rank (\d): ([\d.]+)", output))


def check_sums(output: str, processes: int) -> None:
    """Each process ends with the same parameters."""
    assert len(sums(output)) == processes
    assert len(set(sums(output).values())) == 1


def finished(folder: Path, launcher: list[str]) -> subprocess.CompletedProcess[str]:
    result = run(folder, launcher)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def check_checkpoint(folder: Path) -> None:
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    torchvision.models.resnet18(num_classes=28).load_state_dict(saved["student"])
    connector = "terms.ctd_cd.student_connector.fc"
    assert saved["regularizer"].keys() == {f"{connector}.weight", f"{connector}.bias"}
    assert saved["epoch"] == 3
    assert not (folder / "checkpoint.part").exists()


def test_script_is_short():
    assert len(SCRIPT.splitlines()) < 70
    assert max(map(len, SCRIPT.splitlines())) <= 120


def test_what_is_tapped_where():
    networks = [torchvision.models.resnet18(num_classes=outputs) for outputs in (28, 10)]
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| .* \| `([\w.]+)` \|$", PAGE, re.MULTILINE)
    assert rows == [(term.name, term.student, term.teacher) for term in xr.shorthand(*networks, "ctd-com")]


def check_epochs(output: str, expected: str) -> None:
    assert re.findall(r"^epoch (\d)", output, re.MULTILINE) == list(expected)


@LAUNCHERS
def test_runs(launcher, processes, tmp_path):
    output = finished(tmp_path, launcher).stdout
    check_epochs(output, "123")
    check_sums(output, processes)
    check_checkpoint(tmp_path)


@pytest.mark.slow
@LAUNCHERS
def test_killed_script_goes_on(launcher, processes, tmp_path):
    """SIGKILL in the middle of the second epoch; a run after the last epoch has nothing left to do."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    first = finished(whole, launcher).stdout
    check_epochs(first, "123")
    check_sums(first, processes)

    assert SCRIPT.count(STEP) == 1
    result = run(killed, launcher, SCRIPT.replace(STEP, STEP + KILL))
    assert result.returncode != 0
    check_epochs(result.stdout, "1")
    assert not sums(result.stdout)
    resumed = finished(killed, launcher).stdout
    check_epochs(resumed, "23")
    assert sums(resumed) == sums(first)
    check_checkpoint(killed)
    one, other = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, killed))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert sums(finished(killed, launcher).stdout) == sums(first)
