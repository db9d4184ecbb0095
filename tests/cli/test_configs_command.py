"""`xtask-reg configs` as a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from xtask_reg import cli

FOLDER = Path(__file__).parents[2] / "configs/mmpose"


def test_list_has_each_config_and_no_base(capsys):
    assert cli.main(["configs"]) == 0
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(str(FOLDER))
    expected = sorted(path for path in FOLDER.rglob("*.py") if "_base_" not in path.parts)
    assert [FOLDER / f"{name}.py" for name in lines[::2]] == expected
    assert all(len(text.strip()) > 20 and "#" not in text for text in lines[1::2])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("td-hm_res50_ft_landmarks-256x256", "td-hm_res50_ft_landmarks-256x256.py"),
        ("td-hm_res50_ft_landmarks-256x256.py", "td-hm_res50_ft_landmarks-256x256.py"),
        ("demo/td-hm_res18_ctd-ed_synthetic-128x128", "demo/td-hm_res18_ctd-ed_synthetic-128x128.py"),
        ("res18_fe", "demo/td-hm_res18_fe_synthetic-128x128.py"),
    ],
)
def test_path(name, file, capsys):
    assert cli.main(["configs", name]) == 0
    path = Path(capsys.readouterr().out.removesuffix("\n"))
    assert path == FOLDER / file
    assert "model" in Config.fromfile(path)


def test_json(capsys):
    assert cli.main(["configs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {path.stem for path in FOLDER.rglob("td-hm_*.py")} == {Path(name).name for name in found}
    assert found["td-hm_res50_ctd-com_landmarks-256x256"] == {
        "path": str(FOLDER / "td-hm_res50_ctd-com_landmarks-256x256.py"),
        "what": "CTD-Com: FT with both constraints.",
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [("ctd-ed", "4 configs have 'ctd-ed' in their name; expected one of"), ("none", "no config is called 'none'")],
)
def test_errors(name, message, capsys):
    assert cli.main(["configs", name]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"xtask-reg configs: {message}")
    assert printed.out == ""


def test_a_reader_that_stops_is_no_error():
    """As in `xtask-reg configs | head -1`; the pipe is closed before anything is written."""
    with subprocess.Popen(
        [sys.executable, "-m", "xtask_reg", "configs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
