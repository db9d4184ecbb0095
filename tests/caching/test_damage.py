"""Files that are damaged, cut off or foreign are detected and reported, and their entries computed again."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

HEADER = {
    "the mark": lambda content, start: 3,
    "its version": lambda content, start: 7,
    "the length of the text": lambda content, start: 9,
    "the text": lambda content, start: 40,
    "the header's checksum": lambda content, start: start - 2,
}
RECORD = {"a key": 0, "a record's checksum": 17, "the first value": 20, "the last value": -1}


def header_end(content: bytes) -> int:
    """Where the records begin, by the published format."""
    return 12 + struct.unpack("<I", content[8:12])[0] + 4


@pytest.fixture
def file(source, images, cached, tmp_path) -> Path:
    """The file that a first run left."""
    cached(source, dtype="float16").features(images, ["fc"])
    (found,) = (tmp_path / "cache").rglob("*.cache")
    return found


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 0x10
    file.write_bytes(content)


def test_file_is_in_the_published_format(source, images, by_hand, file) -> None:
    content = file.read_bytes()
    assert content[:8] == b"XTCACHE1"
    start = header_end(content)
    assert struct.unpack("<I", content[start - 4 : start])[0] == zlib.crc32(content[: start - 4])
    header = json.loads(content[12 : start - 4])
    assert (header["tap"], header["shape"], header["dtype"], header["stored"]) == (
        "fc", [5], "torch.float32", "torch.float16",
    )  # fmt: skip
    records = np.frombuffer(content[start:], np.dtype([("key", "S16"), ("crc", "<u4"), ("values", "<f2", 5)]))
    for record, raw in zip(records, np.frombuffer(content[start:], "V30"), strict=True):
        raw = raw.tobytes()
        assert record["crc"] == zlib.crc32(raw[:16] + raw[20:])
    wanted = by_hand(source, images)["fc"].numpy().astype(np.float16)
    np.testing.assert_array_equal(records["values"], wanted)


@pytest.mark.parametrize("where", HEADER)
def test_damaged_header(source, images, cached, computed, by_hand, file, where) -> None:
    content = file.read_bytes()
    flip(file, HEADER[where](content, header_end(content)))
    rebuilt(source, images, cached, computed, by_hand, "is left alone.*(begin as a file|damaged|another)", len(images))


@pytest.mark.parametrize("record", [0, 3, 5])
@pytest.mark.parametrize("where", RECORD)
def test_damaged_record(source, images, cached, computed, by_hand, file, where, record) -> None:
    start, size = header_end(file.read_bytes()), 16 + 4 + 2 * 5
    flip(file, start + size * record + RECORD[where] % size)
    rebuilt(source, images, cached, computed, by_hand, "1 damaged entries are computed again", 1)


def test_any_bit(source, images, cached, by_hand, file) -> None:
    """Wherever the file changes, there is a warning, and the values are right."""
    content, wanted = file.read_bytes(), by_hand(source, images)["fc"].numpy().astype(np.float16)
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        with pytest.warns(UserWarning, match="computed again"):
            found = cached(source, dtype="float16").features(images, ["fc"])["fc"]
        np.testing.assert_array_equal(found.numpy(), wanted.astype(np.float32), str(position))
        for other in set(file.parent.iterdir()) - {file}:
            other.unlink()


def rebuilt(source, images, cached, computed, by_hand, warning: str, lost: int) -> None:
    """The next run warns, and computes what is lost and the audited image; the one after it computes nothing."""
    teacher = cached(source, dtype="float16")
    with pytest.warns(UserWarning, match=warning):
        assert computed(teacher, images, "fc") == lost + 1
    wanted = by_hand(source, images)["fc"].half().float()
    torch.testing.assert_close(teacher.features(images, ["fc"])["fc"], wanted, rtol=0, atol=0)
    with pytest.warns(UserWarning, match=warning):
        assert computed(cached(source, dtype="float16"), images, "fc") == 1


@pytest.mark.parametrize(("left", "lost"), [(0, 6), (5, 6), (11, 6), (60, 6), (-1, 1), (-29, 1), (-31, 2), (-180, 6)])
def test_cut_off(source, images, cached, computed, by_hand, file, left, lost) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:left])
    if left == -180:  # the header alone is a whole file without records
        assert computed(cached(source, dtype="float16"), images, "fc") == lost + 1
        return
    rebuilt(
        source, images, cached, computed, by_hand, "it is empty|header is|ends within an entry|begin as a file", lost
    )


def foreign_bytes(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * 40)


def no_file(file: Path) -> None:
    file.unlink()
    file.mkdir()


def other_archive(file: Path) -> None:
    torch.save({"fc": torch.ones(3)}, file)


def other_teacher(file: Path) -> None:
    """A valid file whose header names another teacher."""
    reheaded(file, teacher="0")


def reheaded(file: Path, **changes: object) -> None:
    content = file.read_bytes()
    start = header_end(content)
    with_header(file, json.dumps({**json.loads(content[12 : start - 4]), **changes}).encode(), content[start:])


def with_header(file: Path, text: bytes, records: bytes = b"") -> None:
    begin = b"XTCACHE1" + struct.pack("<I", len(text)) + text
    file.write_bytes(begin + struct.pack("<I", zlib.crc32(begin)) + records)


def odd_header(file: Path) -> None:
    with_header(file, b"[1, 2]")


def deep_header(file: Path) -> None:
    with_header(file, b"[" * 60000)


def endless_shape(file: Path) -> None:
    reheaded(file, shape=[math.inf])


def empty_shape(file: Path) -> None:
    reheaded(file, shape=[0, 5])


def pipe(file: Path) -> None:
    """Reading it would wait forever for a writer."""
    file.unlink()
    os.mkfifo(file)


FOREIGN = (foreign_bytes, no_file, other_archive, other_teacher, odd_header, deep_header, endless_shape, empty_shape)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("change", [*FOREIGN, pipe], ids=lambda change: change.__name__)
def test_foreign(source, images, cached, computed, by_hand, file, change: Callable[[Path], None]) -> None:
    change(file)
    before = file.read_bytes() if file.is_file() else None
    rebuilt(source, images, cached, computed, by_hand, "is left alone", len(images))
    assert before == (file.read_bytes() if file.is_file() else None)


def test_other_layout_within_one_folder(source, images, cached, computed, by_hand, file) -> None:
    content = file.read_bytes()
    start = header_end(content)
    header = {**json.loads(content[12 : start - 4]), "shape": [2, 2]}
    text = json.dumps(header).encode()
    begin = content[:8] + struct.pack("<I", len(text)) + text
    other = file.with_name("zzz.cache")
    other.write_bytes(begin + struct.pack("<I", zlib.crc32(begin)) + content[start:])
    rebuilt(source, images, cached, computed, by_hand, "it stores Layout", 0)


def test_folder_moved_to_another_teacher(source, images, cached, computed, by_hand, file, tmp_path) -> None:
    """Somebody renames the folder of one teacher into that of another."""
    other = cached(source, folder=tmp_path / "second", dtype="float32")
    other.features(images, ["fc"])
    (mine,) = (tmp_path / "second").iterdir()
    shutil.copy(file, mine / "copied.cache")
    again = cached(source, folder=tmp_path / "second", dtype="float32")
    with pytest.warns(UserWarning, match="another teacher, tap or kind of image"):
        found = again.features(images, ["fc"])["fc"]
    torch.testing.assert_close(found, by_hand(source, images)["fc"], rtol=0, atol=0)


@pytest.mark.parametrize("own", [False, True])
def test_cut_while_in_use(source, images, cached, by_hand, file, own) -> None:
    """Reading a mapped file beyond its end would kill the process; what follows goes to a new file."""
    if own:
        file.unlink()
    teacher = cached(source, dtype="float16")
    teacher.features(images, ["fc"])
    (used,) = file.parent.iterdir()
    with used.open("r+b") as opened:
        opened.truncate(30)
    wanted = by_hand(source, images)["fc"].half().float()
    with pytest.warns(UserWarning, match="became shorter while in use"):
        torch.testing.assert_close(teacher.features(images, ["fc"])["fc"], wanted, rtol=0, atol=0)
    torch.testing.assert_close(teacher.features(images, ["fc"])["fc"], wanted, rtol=0, atol=0)


def test_deleted_while_in_use(source, images, cached, computed, by_hand, file) -> None:
    teacher = cached(source, dtype="float16")
    teacher.features(images[:3], ["fc"])
    shutil.rmtree(file.parent.parent)
    for batch in (images, images + 1):
        wanted = by_hand(source, batch)["fc"].half().float()
        torch.testing.assert_close(teacher.features(batch, ["fc"])["fc"], wanted, rtol=0, atol=0)
    assert computed(cached(source, dtype="float16"), images + 1, "fc") == 1
