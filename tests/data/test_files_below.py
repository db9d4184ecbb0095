"""Folders of links: each file is found, and once."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from xtask_reg.data.conversion.formats import read_pts
from xtask_reg.data.files_below import files_below

PTS = "version: 1\nn_points: 1\n{\n1 2\n}\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder in which one of two sets is a link to another place."""
    for name in ("set/near/a", "elsewhere/b", "set/.hidden/c"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / f"{name}.pts").write_text(PTS)
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((32, 32, 3), 99, np.uint8))
    (tmp_path / "set/far").symlink_to("../elsewhere")
    return tmp_path / "set"


def test_links_are_followed(folder):
    assert read_pts(folder).files == ("far/b.png", "near/a.png")
    assert len(list(files_below(folder))) == 4


def test_nothing_is_found_twice(folder):
    (folder / "near/up").symlink_to("..")
    (folder / "again").symlink_to("near")
    assert read_pts(folder).files == ("far/b.png", "near/a.png")


def test_a_folder_s_own_path_comes_before_that_of_a_link(folder):
    """Wherever the link lies, an image in another folder is looked for by the path that is no link."""
    (folder / "all").mkdir()
    (folder / "all/near").symlink_to("../near")
    (folder / "all/far").symlink_to("../far")
    assert read_pts(folder).files == ("far/b.png", "near/a.png")


def test_images_without_labels_are_found_too(folder):
    folder_of_images = pytest.importorskip("xtask_reg.integrations.mmengine.folder_of_images")
    images = folder_of_images.FolderOfImages(folder, None)
    assert [file.relative_to(folder).as_posix() for file in images.files] == ["far/b.png", "near/a.png"]


def test_what_a_disk_keeps_for_itself_is_passed_over(folder):
    (folder / "lost+found").mkdir(mode=0)
    cv2.imwrite(str(folder / "lost+found/d.png"), np.zeros((32, 32, 3), np.uint8))
    assert len(list(files_below(folder))) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anywhere")
def test_a_folder_that_cannot_be_read_is_told(folder):
    (folder / "closed").mkdir(mode=0)
    with pytest.raises(PermissionError, match="closed"):
        list(files_below(folder))
