"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from xtask_reg.whole_file import check_place, whole_file


def test_the_old_file_stays_until_the_end(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with whole_file(file) as part:
        assert part.suffix == ".txt"
        part.write_text("new")
        assert file.read_text() == "old"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "new")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [True, False])
def test_after_an_error_nothing_stays(error, written, tmp_path):
    def write() -> None:
        with whole_file(tmp_path / "a.txt") as part:
            if written:
                part.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("use", [check_place, lambda path: whole_file(path).__enter__()])
def test_bad_places(use, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder for .*none/a.txt; create it first"):
        use(tmp_path / "none/a.txt")
    with pytest.raises(IsADirectoryError, match="is a directory; expected the name of a file"):
        use(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with whole_file(Path("a")) as part:
        part.write_text("x")
    assert (tmp_path / "a").read_text() == "x"


@pytest.mark.parametrize("use", [check_place, lambda path: whole_file(path).__enter__()])
def test_a_pipe_or_device_is_not_replaced(use, tmp_path):
    """Replacing ``/dev/null`` by a file would break a container."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=f"{name} is a device or a pipe; expected the name of a file"):
            use(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_leads_to_its_file(there, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link.txt").symlink_to("far/a.txt")
    if there:
        (tmp_path / "far/a.txt").write_text("old")
    with whole_file(tmp_path / "link.txt") as part:
        part.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "far/a.txt").read_text() == "new"


def test_a_link_into_no_folder(tmp_path):
    (tmp_path / "link").symlink_to("none/a.txt")
    with pytest.raises(FileNotFoundError, match="there is no folder for .*link"):
        check_place(tmp_path / "link")


def test_two_at_a_time_do_not_share_a_part(tmp_path):
    """Nor can anybody place a link at the temporary name, which is not known in advance."""
    with whole_file(tmp_path / "a") as one, whole_file(tmp_path / "a") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "one")]
