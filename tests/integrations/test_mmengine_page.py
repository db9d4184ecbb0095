"""docs/mmengine.md, executed and checked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xtask_reg.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "mmengine.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
RUNS = ["points", "detector"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder in which the page ran as one script, in its own process, where alone its classes are registered."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.py").write_text("\n".join(BLOCKS))
    result = subprocess.run([sys.executable, "page.py"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    return folder


@pytest.mark.parametrize("run", RUNS)
def test_runs_leave_plain_checkpoints(folder, run):
    checkpoint = torch.load(folder / run / "epoch_5.pth", weights_only=True)
    assert not [key for key in checkpoint["state_dict"] if "teacher" in key or "regularizer" in key]
    assert checkpoint["message_hub"]["log_scalars"]["train/loss_ctd_ed"].current() > 0


def test_the_command_makes_the_picture(folder, monkeypatch, capsys):
    (command,) = re.findall(r"```bash\nxtask-reg (.*?)\n```", PAGE)
    monkeypatch.chdir(folder)
    assert not main(command.split())
    assert (folder / "mmengine.png").stat().st_size > 10_000
    said = capsys.readouterr().out
    assert all(f"{run}, backbone.layer4: cosine to the source" in said for run in RUNS)


def test_taps_of_the_table_are_there(folder):
    checkpoint = torch.load(folder / "detector" / "epoch_5.pth", weights_only=True)["state_dict"]
    for tap in ("backbone.layer4", "neck.deconv_layers"):
        assert f"`{tap}`" in PAGE
        assert any(key.startswith(f"{tap}.") for key in checkpoint)
