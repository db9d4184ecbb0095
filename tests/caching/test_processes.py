"""Several processes with one folder, killed processes, full disks."""

from __future__ import annotations

import errno
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).parent / "run.py"
RUN = runpy.run_path(str(PROGRAM))
IMAGES, ENTRY = RUN["IMAGES"], 16 * 16 * RUN["CHANNELS"] * 4 + 20


def start(role: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), role, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> dict[str, object]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


def assert_right(folder: Path, computed: int, warning: str = "") -> None:
    """A new run computes ``computed`` images, and has the right values."""
    teacher = RUN["teacher"](folder)
    with pytest.warns(UserWarning, match=warning) if warning else nullcontext():
        found = teacher.features(RUN["images"](), ["layer"])["layer"]
    torch.testing.assert_close(found, RUN["Source"]().layer(RUN["images"]()).detach())
    assert sum(teacher.network.computed) == computed


def test_two_processes_at_once(tmp_path) -> None:
    processes = [start("train", tmp_path) for _ in range(2)]
    computed = [end(process)["computed"] for process in processes]
    assert IMAGES < sum(computed) <= 2 * (IMAGES + 2)
    assert_right(tmp_path, computed=1)
    assert end(start("train", tmp_path)) == {"computed": 1}


def test_killed_while_writing(tmp_path) -> None:
    """SIGKILL with two and a half of four entries on disk."""
    process = start("die", tmp_path)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    (file,) = tmp_path.rglob("*.cache")
    assert (file.stat().st_size - header(file)) / ENTRY == pytest.approx(6.5, abs=0.01)
    assert_right(tmp_path, computed=1 + IMAGES - 6, warning="ends within an entry, which is left out")
    assert_right(tmp_path, computed=1, warning="ends within an entry")


def header(file: Path) -> int:
    content = file.read_bytes()
    return 16 + int.from_bytes(content[8:12], "little")


def test_write_that_the_system_ends(tmp_path) -> None:
    """A real partial write (by a limit of the file size): an error with the path, and no partial entry counts."""
    error = end(start("limited", tmp_path))["error"]
    assert "the teacher's outputs cannot be stored in" in error
    assert os.strerror(errno.EFBIG) in error
    (file,) = tmp_path.rglob("*.cache")
    assert file.stat().st_size == header(file) + 4 * ENTRY
    assert_right(tmp_path, computed=1 + IMAGES - 4)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of its own, of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_disk_too_small_for_all(small_disk) -> None:
    """Refused before anything is written."""
    teacher = RUN["teacher"](small_disk / "cache", versions=2)
    with pytest.raises(OSError, match=r"up to 3.15 MB .* but only 2.1 MB are free: choose another") as found:
        teacher.features(RUN["images"]()[:4], ["layer"])
    assert found.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("entries", [4, 0])
def test_disk_that_others_fill(small_disk, entries) -> None:
    """The disk is full after ``entries`` entries."""
    teacher, images = RUN["teacher"](small_disk / "cache"), RUN["images"]()
    if entries:
        teacher.features(images[:entries], ["layer"])
    else:
        (small_disk / "cache").mkdir()
    free = os.statvfs(small_disk)
    left = 8192 if entries else 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xtask_reg.caching.cache.announce", lambda *arguments: None)  # as if there was room before
        (small_disk / "others").write_bytes(bytes(free.f_bavail * free.f_frsize - left))
        with pytest.raises(OSError, match="cannot be stored in .*No space left on device.*choose") as found:
            teacher.features(images[4:8], ["layer"])
    assert found.value.errno == errno.ENOSPC
    files = [path for path in (small_disk / "cache").rglob("*") if path.is_file()]
    assert [path.stat().st_size for path in files] == [header(path) + entries * ENTRY for path in files]
    assert len(files) == (1 if entries else 0)
    (small_disk / "others").unlink()
    assert_right(small_disk / "cache", computed=1 + IMAGES - entries if entries else 1 + IMAGES)


def test_folder_that_cannot_be_made(tmp_path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"cannot be stored in .*file/cache.*choose another folder"):
        RUN["teacher"](tmp_path / "file" / "cache").features(RUN["images"]()[:4], ["layer"])
