"""The command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_errors_are_one_line_without_traceback(capsys, tmp_path):
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    assert cli.main(["demo", "--out", str(occupied)]) == 1
    printed = capsys.readouterr()
    assert "xtask-reg demo:" in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(("module", "needed"), [("mmpose", "--no-deps mmpose==1.3.2"), ("cv2", "'xtask-reg[mmpose]'")])
def test_a_missing_package_comes_with_the_remedy(module, needed, capsys, monkeypatch):
    def run(options):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("xtask_reg.cli.mmpose_tool._run", run)
    assert cli.main(["mmpose-tool", "train"]) == 1
    assert capsys.readouterr().err == f"xtask-reg mmpose-tool: No module named {module!r}: pip install {needed}\n"


@pytest.mark.parametrize("epochs", ["0", "-3", "two"])
def test_epochs_must_be_positive(epochs, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--epochs", epochs])
    assert stopped.value.code == 2
    assert "--epochs" in capsys.readouterr().err


def test_a_missing_package_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "xtask_reg.report_page.page", raising=False)
    assert cli.main(["report", str(tmp_path), "--html", str(tmp_path / "r.html")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xtask-reg report: ")
    assert "jinja2" in line
    assert line.endswith("docs/install.md lists what to install for it")
