"""`xtask-reg configs` as a command."""

from __future__ import annotations

import json
import os
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


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_stops_does_not_hide_the_errors_of_the_data(unbuffered, tmp_path):
    """As in `xtask-reg check-data train.json | head`, in a script that continues if the status is 0."""
    image = {"id": 1, "file_name": "gone.png", "width": 64, "height": 64}
    face = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 64, 64], "keypoints": [9, 9, 2]}
    content = {"images": [image], "annotations": [face], "categories": [{"id": 1, "keypoints": ["nose"]}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    command = [sys.executable, "-m", "xtask_reg", "check-data", str(tmp_path / "train.json")]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == b"xtask-reg check-data: errors: 1, warnings: 0, files: 1\n"
    assert process.returncode == 1


def test_a_reader_that_stops_is_no_error():
    """As in `xtask-reg configs | head -1`; the pipe is closed before anything is written."""
    with subprocess.Popen(
        [sys.executable, "-m", "xtask_reg", "configs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
