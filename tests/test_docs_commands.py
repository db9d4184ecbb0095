"""The commands in the docs: each is run by a test, or has a reason why not; and their options exist."""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from xtask_reg import cli
from xtask_reg.sources import load_weights, save_weights

REPOSITORY = Path(__file__).parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
# by the beginning of a command: the test that runs it, on smaller data if it would take long
RUN = {
    "xtask-reg convert-landmarks": "tests/test_docs_commands.py",
    "xtask-reg check-data": "tests/test_docs_commands.py",
    "xtask-reg wise-ft": "tests/test_docs_commands.py",
    "xtask-reg doctor": "tests/integrations/doctor/test_doctor_command.py",
    "xtask-reg import-vggface2": "tests/sources/test_vggface2_refused.py",
    "xtask-reg plot-source": "tests/cli/test_plot_source.py",
    "xtask-reg predict": "tests/integrations/commands/test_pages.py",
    "xtask-reg export": "tests/integrations/commands/test_pages.py",
    "xtask-reg report": "tests/integrations/commands/test_pages.py",
    "xtask-reg taps": "tests/cli/test_taps_command.py",
    "make demo": "tests/demo/test_demo.py",
    "python TOOL configs/mmpose/td-hm_res50_ctd-ed_landmarks-256x256.py": "tests/integrations/test_any_source.py",
    "python TOOL configs/mmpose/td-hm_res50_ft_landmarks-256x256.py": "tests/integrations/test_wise_ft.py",
    "python TOOL configs/mmpose/multiscale": "tests/integrations/test_paper_systems.py",
    "python TOOL configs/mmpose/timm": "tests/integrations/test_any_source.py",
    "python TOOL work_dirs/ft": "tests/integrations/test_mmpose_runs.py",
    "python TOOL configs/mmpose/demo": "tests/integrations/test_mmpose_runs.py",
    "python benchmarks/face_parts.py": "tests/benchmarks/test_face_parts.py",
    "python benchmarks/few_labels.py run": "tests/benchmarks/few_labels/test_run.py",
    "python benchmarks/few_labels.py tune": "tests/benchmarks/few_labels/test_tuning.py",
    "python benchmarks/few_labels_report.py": "tests/benchmarks/few_labels/test_report.py",
    "python benchmarks/loader_cost.py": "tests/benchmarks/test_loader_cost.py",
    "python benchmarks/step_scale.py": "tests/benchmarks/test_step_scale.py",
    "python benchmarks/prepare_frl.py": "tests/benchmarks/test_prepare.py",
    "python benchmarks/prepare_dlib.py": "tests/benchmarks/test_prepare.py",
    "python benchmarks/prepare_efficientnet_lite0.py": "tests/benchmarks/test_prepare.py",
    "python train.py": "tests/integrations/test_torchrun_page.py",
    "python benchmarks/step_cost.py": "tests/benchmarks/test_step_cost.py",
    "python benchmarks/step_report.py": "tests/benchmarks/test_step_cost.py",
    "torchrun": "tests/integrations/test_torchrun_page.py",
}
NOT_RUN = {
    "make docs": "is part of `make test`",
    "make test": "is this",
    "export OMP_NUM_THREADS": "sets how many threads are measured",
    "git clone": "has no address here",
    "cd xtask-reg": "follows the clone",
    "pip install": "downloads; its pins and extras are looked at below, and tests/test_wheel.py installs the wheel",
    "python -m venv": "belongs to pip install",
    ". env/bin/activate": "belongs to pip install",
    "npm pack": "downloads a source network",
    "tar": "unpacks that download",
    "D=": "names the folder of the photographs",
    "S=": "names that source network",
    "pip download": "downloads a source network",
    "unzip": "unpacks that download",
    "python benchmarks/few_labels.py prepare": "needs photographs that are fetched by hand, and files of networks",
    "python benchmarks/confidence.py": "trains the demonstration; its table is looked at where docs/predict.md is run",
    "python benchmarks/job_cost.py": "is three whole trainings; tests/benchmarks/test_job_cost.py reads such logs",
    "python benchmarks/synthetic_faces.py": "trains the demonstration; tests/test_docs.py has its table",
    "python benchmarks/real_data.py": "needs photographs that are fetched by hand, and hours",
    "nnUNetv2_train": "needs nnU-Net; where that is installed, tests/integrations/test_nnunet.py calls its functions",
    "export nnUNet_extTrainer": "names the files for that",
    "python TOOL configs/mmpose/dlib/": "one run of that benchmark",
}


def commands(page: Path) -> list[list[str]]:
    """The words of each command in the page's bash blocks, and of each ``python`` script in its text.

    ``$(xtask-reg mmpose-tool …)`` is the word ``TOOL``.
    """
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    blocks += re.findall(r"`(?:\w+=\w+ )*(python benchmarks/[^`]+)`", page.read_text())
    text = re.sub(r"\$\(\S*xtask-reg mmpose-tool \w+\)", "TOOL", "\n".join(blocks).replace("\\\n", " "))
    lines = [line for block in text.splitlines() for line in block.split("&&")]
    return [words for line in lines if (words := shlex.split(line.replace("<", "").replace(">", ""), comments=True))]


COMMANDS = [(str(page.relative_to(REPOSITORY)), words) for page in PAGES for words in commands(page)]


def begins(beginning: str, words: list[str]) -> bool:
    return " ".join(words).startswith(beginning)


@pytest.mark.parametrize(("page", "words"), COMMANDS)
def test_somebody_runs_it(page: str, words: list[str]) -> None:
    assert any(begins(beginning, words) for beginning in (*RUN, *NOT_RUN)), f"{page}: {' '.join(words)}"


@pytest.mark.parametrize("beginning", [*RUN, *NOT_RUN])
def test_the_lists_are_not_stale(beginning: str) -> None:
    assert any(begins(beginning, words) for _, words in COMMANDS)
    assert beginning in NOT_RUN or (REPOSITORY / RUN[beginning]).exists()


def parse(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for command in cli.COMMANDS:
        command.add_to(commands)
    parser.parse_args(words[1:])


def check_config(words: list[str]) -> None:
    from mmengine.config import Config, DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--work-dir")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    given = parser.parse_args(words[2:])
    (file,) = (REPOSITORY / "configs").rglob(Path(given.files[0]).name)  # a work folder has a copy
    config = Config.fromfile(file)
    config.merge_from_dict(given.cfg_options or {})


def check_script(words: list[str]) -> None:
    code = (REPOSITORY / words[1]).read_text()
    assert all(f'"{word}"' in code for word in words if word.startswith("--"))


def check_target(words: list[str]) -> None:
    assert f"\n{words[1]}:" in (REPOSITORY / "Makefile").read_text()


def check_requirements(words: list[str]) -> None:
    """Pinned versions are those that are tested here, and extras exist."""
    pins = [Requirement(pin) for pin in PROJECT["tool"]["uv"]["constraint-dependencies"]]
    tried = {pin.name: str(pin.specifier) for pin in pins}
    for word in words[2:]:
        if word.startswith("-") or word == "xtcocotools":
            continue
        needed = Requirement(word)
        if needed.name == "xtask-reg":
            assert needed.extras <= PROJECT["project"]["optional-dependencies"].keys()
        elif "==" in str(needed.specifier):
            assert str(needed.specifier) == tried[needed.name]


CHECKS: dict[str, Callable[[list[str]], None]] = {
    r"xtask-reg": parse,
    r"\S*python TOOL": check_config,
    r"python benchmarks/": check_script,
    r"make": check_target,
    r"pip install": check_requirements,
}
CHECKED = [
    (check, page, words)
    for page, words in COMMANDS
    for form, check in CHECKS.items()
    if re.match(form, " ".join(words))
]


@pytest.mark.parametrize(("check", "page", "words"), CHECKED)
def test_it_has_the_options_that_there_are(
    check: Callable[[list[str]], None], page: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(words)


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (120, 100, 3), dtype=np.uint8))


def points(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(20, 80, (count, 2)).round(1)


def csv_of(names: list[str], files: list[str]) -> str:
    header = ",".join(["file", *(f"{name}_{axis}" for name in names for axis in "xy")])
    rows = [",".join([file, *map(str, points(len(names), seed).ravel())]) for seed, file in enumerate(files)]
    return "\n".join([header, *rows])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the annotations of docs/data.md."""
    monkeypatch.chdir(tmp_path)
    page = (REPOSITORY / "docs/data.md").read_text()
    header, pairs = re.findall(r"^```\n(file,.*?)\n|^```\n(left_eye,.*?)```", page, re.DOTALL | re.MULTILINE)
    names = [column.removesuffix("_x") for column in header[0].split(",")[1:-1:2]]
    names += [name for name in pairs[1].replace("\n", ",").split(",") if name and name not in names]
    files = [f"visit1/{number}.jpg" for number in range(10)]
    for seed, file in enumerate(files):
        photograph(Path("photos", file), seed)
        photograph(Path(file), seed)
        photograph(Path("WFLW_images", file), seed)
        photograph(Path("300W/helen/trainset", f"{seed}.jpg"), seed)
        lines = "\n".join(f"{x} {y}" for x, y in points(68, seed))
        Path("300W/helen/trainset", f"{seed}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
    Path("labels.csv").write_text(csv_of(names, files))
    Path("one_eye.csv").write_text(csv_of(["eye_outer", "eye_inner", "nose"], files))
    sizes = ["mm_per_pixel", *["0.1"] * len(files)]
    lines = csv_of(["sella", "nasion"], files).splitlines()
    Path("cephalograms.csv").write_text("\n".join(map(",".join, zip(lines, sizes, strict=True))))
    Path("xrays").symlink_to("photos")
    Path("pairs.csv").write_text(pairs[1])
    Path("persons.csv").write_text("file,person\n" + "\n".join(f"{file},p{n}" for n, file in enumerate(files)))
    rows = [[*points(98, seed).ravel(), 10, 10, 90, 90, *[0] * 6, file] for seed, file in enumerate(files)]
    Path("list_98pt_rect_attr_train.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    return tmp_path


def run_all(page: str, command: str) -> int:
    chosen = [words for where, words in COMMANDS if where == page and words[:2] == ["xtask-reg", command]]
    for words in chosen:
        assert cli.main(words[1:]) == 0, words
    return len(chosen)


def test_data_commands(folder: Path) -> None:
    assert run_all("docs/data.md", "convert-landmarks") == 5
    for name in ("landmarks", "wflw", "helen", "one_eye", "cephalograms"):
        assert (folder / "data" / name / "train.json").stat().st_size > 1000
    assert run_all("docs/data.md", "check-data") == 1
    assert cv2.imread(str(folder / "look.png")) is not None


def test_wise_ft_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("work_dirs/ft", "data/sources"):
        Path(name).mkdir(parents=True)
    torch.save({"state_dict": {"backbone.w": torch.ones(2), "head.w": torch.ones(1)}}, "work_dirs/ft/epoch_150.pth")
    save_weights({"w": torch.zeros(2)}, "data/sources/vggface2_resnet50.safetensors")
    assert run_all("docs/procedures.md", "wise-ft") == 1
    halfway = next(words[-1] for page, words in COMMANDS if page == "docs/procedures.md" and "TOOL" in words)
    torch.testing.assert_close(load_weights(halfway)["backbone.w"], torch.full((2,), 0.5))
