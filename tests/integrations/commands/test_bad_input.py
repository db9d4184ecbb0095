"""Bad input to every command: a message, an exit status, no traceback, and nothing left behind."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from without_privileges import permissions_hold

from xtask_reg.cli import COMMANDS

PREDICT = "predict {config} {checkpoint} {image}"
EXPORT = "export {config} {checkpoint}"
WISE_FT = "wise-ft {checkpoint} {source}"

BAD = [
    # a file that does not exist
    ("doctor {missing}.py", "missing.py"),
    ("taps {missing}.py", "missing.py cannot be built: .*No such file"),
    ("import-vggface2 {missing} {out}.safetensors", "there is no file .*missing"),
    ("convert-landmarks {missing}.csv --out {out}", "annotation file .*missing.csv does not exist"),
    ("convert-landmarks {csv} --persons {missing} --out {out}", "missing does not exist"),
    ("check-data {missing}", "missing does not exist"),
    ("predict {missing} {checkpoint} {image} --out {out}", "missing"),
    ("predict {config} {missing} {image} --out {out}", "there is no file .*missing"),
    ("predict {config} {checkpoint} {image} {missing} --out {out}", "the image .*missing does not exist"),
    (f"{PREDICT} --out {{out}} --boxes {{missing}}", "missing does not exist"),
    (f"{PREDICT} --out {{out}} --distance {{missing}}.json", "missing.json is no file"),
    ("export {missing} {checkpoint} {out}.safetensors", "missing"),
    ("export {config} {missing} {out}.safetensors", "there is no file .*missing"),
    ("report {missing} --html {out}.html", "there is no folder .*missing"),
    ("plot-source {missing} --out {out}.png", "missing"),
    ("wise-ft {missing} {source} --out {out}.pth", "there is no file .*missing"),
    ("wise-ft {checkpoint} {missing} --out {out}.pth", "there is no file .*missing"),
    ("configs missing", "no config is called 'missing'"),
    # a folder for a file, and a file for a folder
    ("demo --out {image}", "not a directory|File exists|exists"),
    ("doctor {empty}", "empty"),
    ("import-vggface2 {empty} {out}.safetensors", "not a regular file"),
    ("check-data {empty}", "empty does not exist or is not a file"),
    ("predict {empty} {checkpoint} {image} --out {out}", "empty"),
    ("predict {config} {empty} {image} --out {out}", "empty is not a regular file"),
    ("predict {config} {checkpoint} {image} --out {image}", "exists and is not an empty folder"),
    ("predict {config} {checkpoint} {image} --out {work}", "exists and is not an empty folder"),
    (f"{EXPORT} {{folder}}.safetensors", "is a directory"),
    (f"{EXPORT} {{missing}}/s.safetensors", "there is no folder .*missing"),
    ("report {image} --html {out}.html", "there is no folder"),
    ("report {work} --html {empty}", "empty is a directory"),
    ("report {work} --html {missing}/r.html", "there is no folder for .*r.html"),
    ("wise-ft {empty} {source} --out {out}.pth", "not a regular file"),
    # an empty folder
    ("convert-landmarks {empty} --out {out}", "empty"),
    ("predict {config} {checkpoint} {empty} --out {out}", "the folder .*empty itself has no image"),
    ("report {empty} --html {out}.html", "empty has neither .*scalars.json nor predictions.json"),
    ("plot-source {empty} --out {out}.png", "empty has no .*scalars.json"),
    # a file of zeros
    ("doctor {corrupt}.py", "null bytes|corrupt"),
    ("import-vggface2 {corrupt}.pkl {out}.safetensors", "corrupt.pkl"),
    ("convert-landmarks {corrupt}.csv --out {out}", "corrupt.csv"),
    ("check-data {corrupt}.json", "corrupt.json"),
    ("predict {corrupt}.py {checkpoint} {image} --out {out}", "null bytes|corrupt"),
    ("predict {config} {corrupt}.pth {image} --out {out}", "corrupt.pth cannot be read"),
    ("predict {config} {corrupt}.safetensors {image} --out {out}", "corrupt.safetensors cannot be read"),
    ("predict {config} {checkpoint} {image} {corrupt}.png --out {out}", "the image .*corrupt.png cannot be decoded"),
    ("predict {config} {checkpoint} {image} {cut} --out {out}", "the image .*cut.png is damaged or cut off"),
    (f"{PREDICT} --out {{out}} --boxes {{corrupt}}.csv", "corrupt.csv"),
    (f"{PREDICT} --out {{out}} --distance {{corrupt}}.json", "corrupt.json"),
    ("export {config} {corrupt}.pth {out}.safetensors", "corrupt.pth cannot be read"),
    ("report {damaged} --html {out}.html", "scalars.json, line 1: not JSON"),
    ("plot-source {damaged} --out {out}.png", "scalars.json, line 1: not JSON"),
    ("wise-ft {corrupt}.pth {source} --out {out}.pth", "corrupt.pth cannot be read"),
    # a checkpoint of another model, or none
    ("import-vggface2 {source} {out}.safetensors", "."),
    ("predict {config} {source} {image} --out {out}", "s.safetensors .*does not fit"),
    ("predict {config} {unnamed} {image} --out {out}", "unnamed.pth does not name its landmarks"),
    ("predict {config} {diverged} {image} --out {out}", "diverged.pth: backbone.conv1.weight has NaN"),
    ("predict {config} {pickle} {image} --out {out}", "pickle.pth holds more than tensors"),
    ("predict {base} {checkpoint} {image} --out {out}", "the config has no model"),
    ("export {config} {source} {out}.safetensors", "s.safetensors .*does not fit"),
    ("wise-ft {source} {source} --out {out}.pth", "has no tensor under 'backbone.'"),
    # options that do not fit
    (f"{PREDICT} --out {{out}} --mm-per-pixel 2", "--mm-per-pixel applies to distances only"),
    (f"{PREDICT} --out {{out}} --distance a=left_eye_outer:ear", "needs the landmark 'ear'; known: left_eye_outer"),
    (f"{PREDICT} --out {{out}} --distance a", "a is no file"),
    (f"{PREDICT} --out {{out}} --device nonsense", "--device nonsense cannot be used"),
    (f"{PREDICT} --out {{out}} --box 0 0 0 5", "box 0 0 0 5: expected a width and height"),
    (f"{PREDICT} --out {{out}} --box 64 0 5 5", "lies outside of its 64 x 64 pixels"),
    (f"{EXPORT} {{out}}.pth", "a name that ends in .safetensors"),
    ("report {work} {work} --html {out}.html", "runs need different names"),
    (f"{WISE_FT} --out {{checkpoint}}", "epoch_2.pth exists"),
]


@pytest.fixture
def places(tmp_path, run_folder, config_file, checkpoint, source, photographs, config_path) -> dict[str, str]:
    """The values of the names in braces above; all but the checkpoint are copies for this test."""
    work = tmp_path / "work"
    shutil.copytree(run_folder, work, ignore=shutil.ignore_patterns("*.pth"))
    for name in ("empty", "folder.safetensors", "damaged/1/vis_data"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "damaged/1/vis_data/scalars.json").write_bytes(bytes(100))
    for suffix in ("py", "pkl", "csv", "json", "pth", "safetensors", "png"):
        (tmp_path / f"corrupt.{suffix}").write_bytes(bytes(100))
    shutil.copy(photographs[0], tmp_path / "image.png")
    (tmp_path / "cut.png").write_bytes(photographs[0].read_bytes()[:900])
    (tmp_path / "faces.csv").write_text("file,a_x,a_y,b_x,b_y\nimage.png,10,10,40,50\n")
    torch.save({"state_dict": torch.load(checkpoint, weights_only=True)["state_dict"]}, tmp_path / "unnamed.pth")
    diverged = torch.load(checkpoint, weights_only=True)
    diverged["state_dict"]["backbone.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(diverged, tmp_path / "diverged.pth")
    torch.save({"state_dict": {"a": Path("x")}}, tmp_path / "pickle.pth")
    made = {
        "work": work,
        "config": config_file,
        "checkpoint": checkpoint,
        "source": source,
        "base": Path(config_path("ft")).parents[1] / "_base_" / "runtime.py",
        "image": tmp_path / "image.png",
        "cut": tmp_path / "cut.png",
        "csv": tmp_path / "faces.csv",
        "pickle": tmp_path / "pickle.pth",
        "unnamed": tmp_path / "unnamed.pth",
        "diverged": tmp_path / "diverged.pth",
    }
    named = {name: tmp_path / name for name in ("missing", "empty", "folder", "corrupt", "damaged", "out")}
    return {name: str(path) for name, path in {**made, **named}.items()}


def test_every_command_is_here():
    """All but ``mmpose-tool``, which takes no file."""
    names = {module.__name__.rpartition(".")[2].replace("_", "-") for module in COMMANDS} - {"mmpose-tool"}
    assert {text.split()[0] for text, _ in BAD} == names


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_input(text, message, places, command, tree, tmp_path, capfd):
    before = tree(tmp_path)
    assert command(*(part.format(**places) for part in text.split())) == 1
    _one_clear_message(capfd, text.split()[0], message)
    assert tree(tmp_path) == before


def _one_clear_message(capfd, name, message):
    printed = capfd.readouterr()
    assert printed.err.startswith(f"xtask-reg {name}: ")
    assert re.search(message, printed.err, re.DOTALL | re.IGNORECASE)
    assert "Traceback" not in printed.out + printed.err


UNREADABLE = [
    ("doctor {config}", "config"),
    ("import-vggface2 {checkpoint} {out}.safetensors", "checkpoint"),
    ("convert-landmarks {csv} --split 1 0 0 --out {out}", "csv"),
    ("convert-landmarks {csv} --split 1 0 0 --out {out}", "image"),
    ("check-data {json}", "json"),
    (f"{PREDICT} --out {{out}}", "config"),
    (f"{PREDICT} --out {{out}}", "checkpoint"),
    (f"{PREDICT} --out {{out}}", "image"),
    (f"{EXPORT} {{out}}.safetensors", "checkpoint"),
    ("report {work} --html {out}.html", "work"),
    ("plot-source {work} --out {out}.png", "work"),
    (f"{WISE_FT} --out {{out}}.pth", "checkpoint"),
]
WRITING = [
    "demo --out {target}/demo",
    "convert-landmarks {csv} --split 1 0 0 --out {target}/out",
    "check-data {json} --picture {target}/p.png",
    f"{PREDICT} --out {{target}}/out",
    f"{EXPORT} {{target}}/s.safetensors --torch-export",
    "report {work} --html {target}/r.html",
    "plot-source {work} --out {target}/p.png",
    f"{WISE_FT} --out {{target}}/w.pth",
    f"{WISE_FT} --out {{target}}/w.safetensors",
]


@pytest.fixture
def own(places, tmp_path, landmarks) -> dict[str, str]:
    """The same with copies of everything, so that permissions may be removed."""
    for name in ("config", "checkpoint"):
        places[name] = shutil.copy(places[name], tmp_path / f"own_{Path(places[name]).name}")
    shutil.copytree(landmarks, tmp_path / "landmarks")
    places["json"] = str(tmp_path / "landmarks/train.json")
    return places


@pytest.mark.parametrize(("text", "locked"), UNREADABLE)
def test_no_permission_to_read(text, locked, own, command, tree, tmp_path, capfd):
    before, path = tree(tmp_path), Path(own[locked])
    path.chmod(0)
    with permissions_hold():
        assert command(*(part.format(**own) for part in text.split())) == 1
    path.chmod(0o700)
    _one_clear_message(capfd, text.split()[0], "permission denied|cannot be read")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("text", WRITING)
def test_no_permission_to_write(text, own, command, tmp_path, capfd):
    target = tmp_path / "target"
    target.mkdir(mode=0o555)
    with permissions_hold():
        assert command(*(part.format(**own, target=target) for part in text.split())) == 1
    _one_clear_message(capfd, text.split()[0], "permission denied")
    assert list(target.iterdir()) == []


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A file system of 16 KiB."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("text", WRITING)
def test_full_disk(text, own, command, small_disk, capfd):
    """The demonstration keeps its finished stages; other commands leave nothing."""
    assert command(*(part.format(**own, target=small_disk) for part in text.split())) == 1
    _one_clear_message(capfd, text.split()[0], "no space left on device")
    left = [path.name for path in small_disk.iterdir()]
    shutil.rmtree(small_disk / "demo", ignore_errors=True)
    assert left == (["demo"] if text.startswith("demo") else [])


INTERRUPTED = [
    ("doctor {config}", "xtask_reg.integrations.mmpose.doctor.start.read_config"),
    ("import-vggface2 {checkpoint} {out}.safetensors", "xtask_reg.sources.vggface2.load_weights"),
    ("convert-landmarks {csv} --split 1 0 0 --out {out}", "xtask_reg.data.conversion.crops.cv2.resize"),
    ("check-data {json} --picture {out}.png", "matplotlib.figure.Figure.savefig"),
    ("demo --out {out}", "xtask_reg.demo.run.Demo._make_data"),
    (f"{PREDICT} --out {{out}}", "xtask_reg.landmarks.face_files.write_coco"),
    (f"{EXPORT} {{out}}.safetensors", "xtask_reg.integrations.mmpose.export.compare"),
    ("report {work} --html {out}.html", "matplotlib.figure.Figure.savefig"),
    ("plot-source {work} --out {out}.png", "matplotlib.figure.Figure.savefig"),
    (f"{WISE_FT} --out {{out}}.pth", "torch.save"),
]


@pytest.fixture
def ctrl_c_is_heard():
    """Shells make background jobs ignore SIGINT, which these tests may inherit."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_heard")
@pytest.mark.parametrize(("text", "where"), INTERRUPTED)
def test_interrupted(text, where, own, command, tree, tmp_path, monkeypatch, capfd):
    """The signal that Ctrl-C sends, in the middle of the work."""
    before, (owner, _, name) = tree(tmp_path), where.rpartition(".")
    monkeypatch.setattr(_object(owner), name, lambda *args, **kwargs: signal.raise_signal(signal.SIGINT))
    assert command(*(part.format(**own) for part in text.split())) == 130
    printed = capfd.readouterr()
    assert printed.err == "interrupted\n"
    assert "Traceback" not in printed.out
    assert tree(tmp_path) == before


def _object(dotted: str):
    """A module, or what is in one."""
    try:
        return importlib.import_module(dotted)
    except ImportError:
        owner, _, name = dotted.rpartition(".")
        return getattr(_object(owner), name)


@pytest.mark.slow
def test_ctrl_c_from_outside(own, tmp_path, tree):
    """A process that is interrupted as from a terminal, once its unfinished folder exists."""
    before = tree(tmp_path)
    images = [str(path) for path in (tmp_path / "landmarks/images").iterdir()]
    arguments = ["predict", own["config"], own["checkpoint"], *images, "--out", own["out"], "--batch-size", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "xtask_reg", *arguments], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not list(tmp_path.glob(".out.*.part/pictures/*")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "interrupted\n"
    assert process.returncode == 130
    assert tree(tmp_path) == before


INTERRUPTING = """
import signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""
"""A ``sitecustomize`` that sends Ctrl-C when the import of PyTorch begins."""
EARLY = [
    "taps resnet18",
    f"{PREDICT} --out {{out}}",
    "doctor {config}",
    "demo --out {out}",
    "import-vggface2 {checkpoint} {out}",
]


@pytest.mark.parametrize("text", EARLY)
def test_interrupted_while_torch_is_imported(text, own, tree, tmp_path):
    """During the first seconds of a command."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(INTERRUPTING)
    before = tree(tmp_path)
    arguments = [part.format(**own) for part in text.split()]
    result = subprocess.run(
        [sys.executable, "-m", "xtask_reg", *arguments], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert result.stderr == "interrupted\n"
    assert result.returncode == 130
    assert tree(tmp_path) == before
