"""The wheel, built from the sdist and installed beside PyTorch alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]
REPOSITORY = Path(__file__).parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
USE = """
import sys
from pathlib import Path

import torch

before = {name.split(".")[0] for name in sys.modules}
import xtask_reg as xr

extra = {name.split(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
assert extra == {"xtask_reg"}, extra
folder = Path(xr.__file__).parent
assert folder.is_relative_to(sys.prefix), folder
assert (folder / "configs/mmpose/_base_/terms.py").exists()

student, source = (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()) for _ in range(2))
term = xr.Term(xr.CosineAlignmentLoss(), student="0", teacher="0", weight=0.1, name="ed")
keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])
loss = student(torch.rand(2, 3, 8, 8)).mean() + sum(keep().values())
loss.backward()
assert student[0].weight.grad.abs().sum() > 0
"""


def uv(*arguments: object) -> None:
    found = os.environ.get("UV") or shutil.which("uv")
    if found is None:
        pytest.skip("uv builds the wheel, and is not on the path")
    words = [found, *map(str, arguments)]
    result = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--out-dir", folder)
    (sdist,) = folder.glob("xtask_reg-*.tar.gz")
    (wheel,) = folder.glob("xtask_reg-*-py3-none-any.whl")
    assert sdist.stat().st_size < 1_000_000
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment in which the wheel was installed, with the PyTorch of these tests."""
    return installed(str(wheel), tmp_path_factory.mktemp("clean") / "env")


def installed(wheel: str, folder: Path) -> Path:
    uv("venv", folder, "--python", f"{PROJECT['requires-python'].split(',')[0]},<3.13")
    uv("pip", "install", "--python", folder, wheel, f"torch=={torch.__version__.split('+')[0]}")
    return folder / "bin"


def in_the_wheel(wheel: Path, pattern: str) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if re.match(pattern, name)}


def on_disk(folder: str, pattern: str = "*.py") -> set[str]:
    return {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / folder).rglob(pattern)}


def test_files(wheel: Path) -> None:
    configs = {f"xtask_reg/{name}" for name in on_disk("configs/mmpose")}
    assert len(configs) > 15
    others_inside = {"xtask_reg/py.typed", "xtask_reg/report_page/page.html"}
    assert in_the_wheel(wheel, r"xtask_reg/") == on_disk("xtask_reg") | configs | others_inside
    others = {Path(name).name for name in in_the_wheel(wheel, r"(?!xtask_reg/)")}
    assert others == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "LICENSE"}


def test_requirements(wheel: Path) -> None:
    (name,) = in_the_wheel(wheel, r".*METADATA")
    metadata = Parser().parsestr(zipfile.ZipFile(wheel).read(name).decode())
    required = metadata.get_all("Requires-Dist")
    assert [each for each in required if "extra ==" not in each] == PROJECT["dependencies"]
    assert set(metadata.get_all("Provides-Extra")) == PROJECT["optional-dependencies"].keys()
    assert PROJECT["optional-dependencies"].keys() >= {"all", "docs", "lightning", "mmpose", "plots", "smp", "timm"}
    for_mmpose = {re.match(r"[\w-]+", each)[0] for each in required if "'mmpose'" in each}
    assert {"mmengine", "mmdet"} <= for_mmpose
    assert not {"mmpose", "mmcv", "mmcv-lite", "mmcv-full", "chumpy"} & for_mmpose


def test_it_works_beside_torch_alone(environment: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [environment / "python", "-I", "-c", USE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_the_command_says_what_is_missing(environment: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [environment / "xtask-reg", *arguments]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "convert-landmarks" in run("--help").stdout
    assert len(run("configs").stdout.splitlines()) > 20
    missing = run("mmpose-tool", "train")
    assert missing.returncode == 1
    *_, line = missing.stderr.splitlines()  # torch warns of a missing NumPy first
    assert line == "xtask-reg mmpose-tool: No module named 'mmpose': pip install --no-deps mmpose==1.3.2"


def test_data_is_converted_and_checked_without_mmpose(wheel: Path, tmp_path: Path) -> None:
    programs = installed(f"{wheel}[data]", tmp_path / "env")
    cv2.imwrite(str(tmp_path / "face.png"), np.zeros((128, 128, 3), np.uint8))
    (tmp_path / "labels.csv").write_text("file,left_x,left_y,right_x,right_y,split\nface.png,40,60,90,61,train\n")
    for words in ("convert-landmarks labels.csv --out faces", "check-data faces/train.json --picture look.png"):
        result = subprocess.run(
            [programs / "xtask-reg", *words.split()], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "look.png").exists()
