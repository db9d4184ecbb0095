"""The command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest

from xtask_reg import cli


@pytest.mark.parametrize("name", ["train", "test"])
def test_mmpose_tool_prints_a_runnable_script(capsys, name):
    assert cli.main(["mmpose-tool", name]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.name == f"{name}.py"
    assert "runner" in path.read_text()


def test_module_and_help():
    result = subprocess.run([sys.executable, "-m", "xtask_reg", "demo", "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    assert "--epochs" in result.stdout


def test_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    package = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out == f"xtask-reg {package}\n"


@pytest.mark.parametrize(
    ("command", "module", "needed"),
    [
        ("mmpose-tool train", "mmpose", "--no-deps mmpose==1.3.2"),
        ("doctor c.py", "mmengine", "'xtask-reg[mmpose]'"),
        ("predict c.py c.pth a.png --out o", "cv2", "'xtask-reg[mmpose]'"),
        ("report run --html r.html", "jinja2", "'xtask-reg[report]'"),
        ("plot-source run --out p.png", "matplotlib", "'xtask-reg[plots]'"),
    ],
)
def test_a_missing_package_comes_with_the_remedy(command, module, needed, capsys, monkeypatch):
    def run(options):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    name = command.split()[0]
    monkeypatch.setattr(f"xtask_reg.cli.{name.replace('-', '_')}._run", run)
    assert cli.main(command.split()) == 1
    assert capsys.readouterr().err == f"xtask-reg {name}: No module named {module!r}: pip install {needed}\n"


def extras() -> dict[str, list[str]]:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    return {
        extra: [re.match(r"[\w-]+", each)[0] for each in packages]
        for extra, packages in project["optional-dependencies"].items()
    }


def test_extras_of_commands_exist():
    assert {"mmpose", *cli.EXTRAS.values()} <= extras().keys()


def test_the_remedy_has_what_is_missing(tmp_path, capsys, monkeypatch):
    for module in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "a.pkl").touch()
    assert cli.main(["import-vggface2", str(tmp_path / "a.pkl"), str(tmp_path / "a.safetensors")]) == 1
    extra = re.search(r"torchvision.*: pip install 'xtask-reg\[(\w+)\]'", capsys.readouterr().err)[1]
    assert "torchvision" in extras()[extra]


@pytest.mark.parametrize("epochs", ["0", "-3", "two"])
def test_epochs_must_be_positive(epochs, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--epochs", epochs])
    assert stopped.value.code == 2
    assert "--epochs" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [False, True])
def test_output_that_cannot_show_a_name_or_is_closed(closed, tmp_path):
    """The last line must not fail after hours of work."""
    (tmp_path / "é.txt").write_text("1 2 9 9 20 30 a.png\n1 2 9 9 20 30 b.png\n")
    pixels = np.full((64, 64, 3), 99, np.uint8)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), pixels)
    arguments = ["convert-landmarks", "é.txt", "--points", "3", "--split", "1", "0", "0", "--out", "é"]
    python = [sys.executable, "-m", "xtask_reg", *arguments]
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *python] if closed else python
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("" if closed else r"\xe9: 2 images, 3 landmarks")
    assert (tmp_path / "é/train.json").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_for_which_there_is_no_room():
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "xtask_reg", "mmpose-tool", "test"]
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr == "xtask-reg mmpose-tool: [Errno 28] No space left on device\n"
