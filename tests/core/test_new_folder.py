"""Folders that appear complete or not at all, whatever their place."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from xtask_reg.new_folder import new_folder


def fill(path: Path) -> None:
    with new_folder(path) as part:
        (part / "images").mkdir()
        (part / "images/a.png").write_text("a")
        (part / "a.json").write_text("{}")


def is_filled(path: Path) -> bool:
    return sorted(each.relative_to(path).as_posix() for each in path.rglob("*")) == ["a.json", "images", "images/a.png"]


@pytest.fixture
def other_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_the_folder_of_another_disk(other_disk):
    fill(other_disk)
    assert is_filled(other_disk)


def test_a_link_to_an_empty_folder(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "out").symlink_to("far")
    fill(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert is_filled(tmp_path / "far")


def test_where_the_process_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(Path("."))
    assert is_filled(Path("."))


def test_an_empty_folder_keeps_its_mode(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o2770)
    fill(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o7777 == 0o2770


def test_a_link_to_nothing_is_refused_at_once(tmp_path):
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="out exists and is not an empty folder"):
        new_folder(tmp_path / "out").__enter__()


def test_what_another_process_of_the_same_number_left_is_in_nobody_s_way(tmp_path):
    """In containers all processes may have the number 1."""
    other = tmp_path / f".out.{os.getpid()}.part"
    other.mkdir()
    (other / "a.json").write_text("theirs")
    fill(tmp_path / "out")
    assert is_filled(tmp_path / "out")
    assert (other / "a.json").read_text() == "theirs"


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_nothing_stays(error, there, tmp_path):
    out = tmp_path / "deep/out"
    if there:
        out.mkdir(parents=True)
    before = list(tmp_path.rglob("*"))

    def interrupted() -> None:
        with new_folder(out) as part:
            (part / "a.json").write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.rglob("*")) == before


def test_what_others_put_there_in_the_meantime_stays_alone(tmp_path):
    def both() -> None:
        with new_folder(tmp_path) as part:
            (part / "a.json").write_text("mine")
            (tmp_path / "a.json").write_text("theirs")

    with pytest.raises(FileExistsError, match="is not empty any more"):
        both()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "theirs")]


def test_an_error_while_moving_takes_all_back(tmp_path, monkeypatch):
    rename, renamed = Path.rename, []

    def fail_at_the_second(self: Path, target: Path) -> Path:
        renamed.append(self)
        if len(renamed) == 2:
            raise OSError("disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_second)
    with pytest.raises(OSError, match="disk"):
        fill(tmp_path)
    assert list(tmp_path.iterdir()) == []
