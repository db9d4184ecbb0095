"""`xtask-reg taps` as a command: text, JSON, and errors of one line."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm

from xtask_reg.cli import taps as command

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs/mmpose"
LAYERS = ["layer1", "layer2", "layer3", "layer4"]
LAYER2 = 64 * 128 * 9 + 128 * 128 * 9 + 64 * 128 + 3 * 2 * 128  # two convolutions, a shortcut, three norms
DLIB_STAGES = ["32_3", "64_3", "128_2", "256_2"]


def run(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    command.add_to(parser.add_subparsers())
    options = parser.parse_args(["taps", *arguments])
    options.run(options)


@pytest.fixture
def listed(capsys):
    """Runs the command with ``--json``; the facts and the modules by path."""

    def get(*arguments: str) -> tuple[dict, dict]:
        run(*arguments, "--json")
        facts = json.loads(capsys.readouterr().out)
        return facts, {module["path"]: module for module in facts["modules"]}

    return get


def test_table(capsys):
    run("timm/resnet10t", "--size", "64", "--depth", "1")
    *lines, _, summary, stages = capsys.readouterr().out.rstrip().splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    assert rows["layer2"][1:] == f"Sequential 1 x 128 x 8 x 8 1 {LAYER2:,} stage 2".split()
    assert rows["maxpool"][-1] == "yes"
    assert rows["conv1"][:2] == ["conv1", "Sequential"]
    assert list(rows)[2:] == ["conv1", "bn1", "act1", "maxpool", *LAYERS]
    count = sum(1 for _ in timm.create_model("resnet10t", features_only=True).modules()) - 1
    assert summary == f"{count} of {count} modules can be tapped; {count - 8} are not shown (--depth 1)"
    assert stages == f"stages: {', '.join(LAYERS)}"


def test_why_not_and_deep_stages(capsys):
    run("smp/Unet/tu-resnet10t", "--size", "64", "--depth", "1")
    out = capsys.readouterr().out
    assert re.search(r"^encoder +TimmUniversalEncoder .* no: gives a list *$", out, re.MULTILINE)
    assert re.search(r"^encoder.model.layer4 .* stage 4 *$", out, re.MULTILINE)
    assert "encoder.model.layer4.0" not in out


def test_without_stages_it_says_so_and_goes_on(capsys):
    run("torch.nn:Conv2d", "--kwargs", "in_channels=3", "out_channels=2", "kernel_size=(1,1)", "padding_mode=zeros")
    said = capsys.readouterr().out
    assert "no stages were found in Conv2d" in said
    assert "stages={student's: source's}" in said
    assert "xtask-reg taps" not in said


DEMO = str(CONFIGS / "demo/td-hm_res18_ctd-com_synthetic-128x128.py")
DLIB = str(CONFIGS / "dlib/td-hm_dlib29_ctd-ed_landmarks-128x128.py")


@pytest.mark.parametrize(
    ("arguments", "stages", "shape"),
    [
        (["torchvision.models:resnet18", "--size", "64", "96"], LAYERS, [512, 2, 3]),
        (["timm/convnext_atto"], [f"stages_{n}" for n in range(4)], [320, 7, 7]),
        (["timm/convnext_atto", "--kwargs", "features_only=False"], [f"stages.{n}" for n in range(4)], [320, 7, 7]),
        (["timm/swin_tiny_patch4_window7_224"], [f"layers_{n}" for n in range(4)], [7, 7, 768]),
        (["smp/DeepLabV3Plus/resnet18", "--size", "64"], [f"encoder.{name}" for name in LAYERS], [512, 4, 4]),
        (["timm/resnet18", "--size", "32"], LAYERS, [512, 1, 1]),
        (["timm/resnet10t", "--size", "32", "--kwargs", "in_chans=5"], LAYERS, [512, 1, 1]),
        (["torchvision.models.video:r3d_18", "--size", "4", "16", "32"], LAYERS[1:], [512, 1, 1, 2]),
        ([DEMO, "--size", "64"], [f"backbone.{name}" for name in LAYERS], [256, 2, 2]),
        ([DLIB, "--size", "64"], [f"backbone.net.blocks.{name}" for name in DLIB_STAGES], [256, 2, 2]),
    ],
    ids=[
        "function",
        "timm",
        "kwargs",
        "channels last",
        "smp",
        "small",
        "channels",
        "volumes",
        "config",
        "config with a module",
    ],
)
def test_names(listed, arguments, stages, shape):
    facts, modules = listed(*arguments)
    assert facts["stages"] == stages
    assert modules[stages[-1]]["shape"] == [1, *shape]
    assert facts["note"] == ""


@pytest.mark.parametrize("program", [["-m", "xtask_reg"], ["bin/xtask-reg"]], ids=["module", "script"])
def test_module_in_the_working_folder(program, tmp_path):
    """Python looks for modules in the folder of the script, which for an installed command is another folder."""
    script = tmp_path / "bin/xtask-reg"
    script.parent.mkdir()
    script.write_text("import sys\nfrom xtask_reg.cli import main\nsys.exit(main())\n")
    (tmp_path / "mynet.py").write_text("import torchvision\n\ndef build():\n    return torchvision.models.resnet18()\n")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, *program, "taps", "mynet:build", "--size", "64", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stages"] == LAYERS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet18"], "expected 'timm/<model name>' or"),
        (["timm/resnet1888"], "timm has no model 'resnet1888', similar ones are resnet18,"),
        (["smp/Unet/resnet17"], "no encoder 'resnet17'.*resnet18"),
        (["smp/Unett/resnet18"], "no architecture 'Unett', similar ones are Unet, MAnet; expected 'smp"),
        (["smp/Unett/resnet17"], "no architecture 'Unett', similar ones are Unet"),
        (["smp/Xyz/resnet18"], "no architecture 'Xyz'; expected 'smp/<architecture>/<encoder>'"),
        (["smp/Unet"], "expected 'smp/<architecture>/<encoder>'"),
        (["torchvision.models:resnet18", "--kwargs", "depth=3"], "cannot be built: .*depth"),
        (["torchvision.models:resnet18", "--kwargs", "depth"], "--kwargs depth: expected KEY=VALUE"),
        (
            ["torchvision.models:resnet18", "--size", "1", "2", "3", "4"],
            "--size 1 2 3 4: expected a side, or height",
        ),
        (["timm/vit_tiny_patch16_224", "--size", "64"], r"--size 64: .* cannot be called .* \(1, 3, 64, 64\)"),
        ([str(CONFIGS / "_base_/runtime.py")], "the config has no model"),
    ],
)
def test_errors_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        run(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["--size", "--depth"])
def test_numbers_are_positive(option, capsys):
    with pytest.raises(SystemExit):
        run("timm/resnet10t", option, "0")
    assert "expected a whole number above 0" in capsys.readouterr().err


def test_the_page_shows_what_is_printed(capsys):
    page = (REPOSITORY / "docs/taps.md").read_text()
    (block,) = re.findall(r"```bash\nxtask-reg taps (.*?)\n```\n\n```text\n(.*?)```", page, re.DOTALL)
    run(*block[0].split())
    printed = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in printed] == block[1].splitlines()


def test_without_rich(monkeypatch, capsys):
    """It is not a dependency of the library: the table's error says what to install, and JSON works without it."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ImportError, match="the table needs rich: pip install rich; or use --json"):
        run("timm/resnet10t", "--size", "64")
    run("timm/resnet10t", "--size", "64", "--json")
    assert json.loads(capsys.readouterr().out)["stages"] == LAYERS


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("timm/x", "timm", "timm"), ("smp/a/b", "segmentation_models_pytorch", "smp")]
)
def test_what_to_install(name, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"{package} is not installed: pip install 'xtask-reg\[{extra}\]'"):
        run(name)
