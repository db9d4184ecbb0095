"""Hostile weight files: thousands made at random, and some made by hand."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from xtask_reg.sources import import_vggface2, load_metadata, load_numpy_pickle, load_weights

WEIGHTS = {"a": torch.ones(2)}
PROGRAM = Path(__file__).parent / "fuzz" / "run.py"
DIRECTORY = {"archive, records", "archive, compressed"}
PICKLE = {"archive, pickle", "legacy, pickle", "arrays, pickle"}
HEADER = {"safetensors, header"}


@pytest.mark.timeout(200)
def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    """Hostile weight files: every one gives tensors or an error that names it; nothing runs, little memory is taken.

    The program checks each file's outcome, time and that no code ran; it would die of a crash, or beyond its memory.
    """
    run = subprocess.run([sys.executable, str(PROGRAM), str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    results = json.loads(run.stdout.split("RESULT")[1])
    counts = {kind: found.get("loaded", 0) + found["refused"] for kind, found in results.items()}
    structural = sum(counts[kind] for kind in DIRECTORY | PICKLE | HEADER)
    assert sum(counts.values()) > 2500
    assert structural > sum(counts.values()) / 2
    for kind, found in results.items():
        sound = found.get("loaded", 0)
        assert sound == 0 if kind in ("archive, compressed", "VGGFace2") else 0 < sound < found["refused"], kind
        assert found["megabytes"] < 32 or kind == "VGGFace2", kind  # which builds a network first
    assert not list(tmp_path.glob("VGGFace2.safetensors*"))


def test_the_code_in_mutated_pickles_would_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile weight files: the fuzz above proves something only if an ordinary unpickler runs what is in its files."""
    monkeypatch.syspath_prepend(PROGRAM.parent)
    import pickles

    marker = tmp_path / "marker"
    pickle.loads(b"\x80\x02}" + pickles.code(str(marker)) + b".")
    assert marker.exists()


# -- zip bombs ---------------------------------------------------------------------------------------------------------


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def repacked(archive: bytes, compression: int, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.comment = comment
    return buffer.getvalue()


BOMB = repacked(saved({"a": torch.zeros(2**22)}), zipfile.ZIP_DEFLATED)  # 17 KB for 16 MB


def with_second_directory(archive: bytes, stated: bool = False, behind: bool = False) -> bytes:
    """Python's zipfile finds a directory without entries in front of the end record, PyTorch the true one.

    The end record may state the place that Python finds, and so may a comment behind it.
    """
    end = archive.rfind(b"PK\x05\x06")
    *_, count, size, start, _ = struct.unpack("<4s4H2LH", archive[end:])

    def end64(count: int, size: int, start: int) -> bytes:
        return struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)

    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    empty, comment = end + 56, struct.pack("<4s12xLH", b"no", end + 56, 0) if behind else b""
    place, short = empty if stated else 2**32 - 1, 2**16 - 1
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, short, short, 2**32 - 1, place, len(comment)) + comment
    return archive[:end] + end64(count, size, start) + end64(0, 0, empty) + locator + last


def with_one_content_for_all(archive: bytes) -> bytes:
    """Every tensor's entry in the directory is that of the first tensor's bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            first = new.NameToInfo.get("archive/data/0")
            if first is None or not name.startswith("archive/data/"):
                new.writestr(name, old.read(name))
            else:
                again = copy.copy(first)
                again.filename = name
                new.filelist.append(again)
    return buffer.getvalue()


BOMBS = {
    "compressed": BOMB,
    "with a comment that looks like an end": repacked(BOMB, zipfile.ZIP_DEFLATED, b"x" * 8 + b"PK\x05\x06" + b"x" * 8),
    "with bytes behind it": BOMB + b"x" * 30,
    "with two directories": with_second_directory(BOMB),
    "with two directories, one stated twice": with_second_directory(BOMB, stated=True),
    "with two directories, one stated in a comment": with_second_directory(BOMB, behind=True),
    "overlapping": with_one_content_for_all(saved({str(i): torch.zeros(2**14) for i in range(50)})),
    "repeated values": saved({"a": torch.zeros(1).expand(2**40)}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_zip_bombs_are_refused(name: str, tmp_path: Path) -> None:
    """Hostile weight files: an archive that takes more memory than it has bytes."""
    (tmp_path / "w.pth").write_bytes(BOMBS[name])
    read = torch.load(tmp_path / "w.pth", weights_only=True)
    assert sum(value.nbytes for value in read.values()) > 10 * len(BOMBS[name]), "no bomb: this test proves nothing"
    with pytest.raises(ValueError, match=r"w\.pth"):
        load_weights(tmp_path / "w.pth")


def test_compressed_archives_are_refused_whatever_size_they_state(tmp_path: Path) -> None:
    """Hostile weight files: sizes can lie, so they do not make compression harmless."""
    noise = torch.randint(0, 256, (4096,), dtype=torch.uint8)
    (tmp_path / "w.pth").write_bytes(repacked(saved({"a": noise}), zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        assert sum(entry.file_size for entry in archive.infolist()) < (tmp_path / "w.pth").stat().st_size
    with pytest.raises(ValueError, match=r"w\.pth cannot be read: .*compressed"):
        load_weights(tmp_path / "w.pth")


def test_uncompressed_archives_of_other_writers_are_read(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(repacked(saved(WEIGHTS), zipfile.ZIP_STORED))
    torch.testing.assert_close(load_weights(tmp_path / "w.pth"), WEIGHTS)


# -- safetensors with false headers ------------------------------------------------------------------------------------


def entry(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


def file(header: str | dict[str, Any], data: int, length: int | None = None) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


ONE, OTHER = entry([2], 0, 8), entry([2], 8, 16)
LIES = {
    "header longer than the file": file({"a": ONE}, 8, 2**20),
    "header of 2**63 bytes": file({"a": ONE}, 8, 2**63),
    "header that ends early": file({"a": ONE}, 8, 20),
    "tensor cut off": file({"a": ONE}, 7),
    "tensor beyond the end": file({"a": ONE, "b": entry([2], 8, 2**40)}, 16),
    "tensors that overlap": file({"a": ONE, "b": entry([2], 4, 12)}, 12),
    "two tensors in one place": file({"a": ONE, "b": ONE}, 8),
    "hole between tensors": file({"a": ONE, "b": entry([2], 12, 20)}, 20),
    "end before the start": file({"a": entry([2], 8, 0)}, 8),
    "bytes that belong to no tensor": file({"a": ONE}, 80),
    "shape that does not fit": file({"a": entry([2**20], 0, 8)}, 8),
    "shape that overflows": file({"a": entry([2**33, 2**33], 0, 8)}, 8),
    "one name twice": file(f'{{"a": {json.dumps(ONE)}, "a": {json.dumps(OTHER)}}}', 16),
    "one field twice": file('{"a": {"dtype": "F32", "shape": [2], "shape": [4], "data_offsets": [0, 8]}}', 8),
    "deeply nested header": file('{"a":' * 10**5, 0),
    "nothing but its length": bytes(8),
}


@pytest.mark.parametrize("name", LIES)
def test_safetensors_that_lie_are_refused(name: str, tmp_path: Path) -> None:
    """Hostile weight files: a header that does not say what is in the file."""
    (tmp_path / "w.safetensors").write_bytes(LIES[name])
    with pytest.raises(ValueError, match=r"w\.safetensors cannot be read"):
        load_weights(tmp_path / "w.safetensors")


# -- links to what is not a file, and formats that could contain code --------------------------------------------------

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "load_weights": ("pth", load_weights),
    "load_weights of safetensors": ("safetensors", load_weights),
    "load_metadata": ("safetensors", load_metadata),
    "load_numpy_pickle": ("pkl", load_numpy_pickle),
    "import_vggface2": ("pkl", lambda path: import_vggface2(path, path.with_name("out.safetensors"))),
}
LINKS: dict[str, tuple[str | None, type[Exception]]] = {
    "nothing": ("nowhere", FileNotFoundError),
    "itself": (None, FileNotFoundError),
    "folder": ("folder", ValueError),
    "pipe": ("pipe", ValueError),
    "endless": ("/dev/zero", ValueError),
    "empty": ("/dev/null", ValueError),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", LINKS)
def test_links_to_what_is_no_file_are_refused(name: str, reader: str, tmp_path: Path) -> None:
    """Hostile weight files: links that lead nowhere, or to what would never end."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    suffix, read = READERS[reader]
    path = tmp_path / f"w.{suffix}"
    target, error = LINKS[name]
    path.symlink_to(path.name if target is None else target)
    with pytest.raises(error, match=rf"w\.{suffix}"):
        read(path)


def test_tar_files_are_refused(tmp_path: Path) -> None:
    """Hostile weight files: PyTorch's oldest format, whose pickles nothing checks."""
    marker = tmp_path / "marker"
    code = pickle.dumps(0, 2)[:-1] + b"0cos\nmkdir\nX" + struct.pack("<I", len(str(marker))) + str(marker).encode()
    with tarfile.open(tmp_path / "w.pth", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(code) + 3
            archive.addfile(member, io.BytesIO(code + b"\x85R."))
    with pytest.raises(ValueError, match=r"w\.pth cannot be read"):
        load_weights(tmp_path / "w.pth")
    assert not marker.exists()
    with pytest.raises(TypeError):
        torch.load(tmp_path / "w.pth", weights_only=False)
    assert marker.exists(), "the payload does not work, so this test proves nothing"


# -- costs that only PyTorch can limit ---------------------------------------------------------------------------------


def with_pickle(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(WEIGHTS))) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith("data.pkl") else old.read(name))
    return buffer.getvalue()


@pytest.mark.xfail(
    strict=True,
    reason="torch.load(weights_only=True) computes what a pickle asks for, whatever it costs: PyTorch's draft advisory "
    "GHSA-g53j-hmj6-fqvw, told in https://github.com/trailofbits/fickling/issues/111",
)
@pytest.mark.parametrize(
    "instructions",
    [
        pytest.param(b"}" + b")" + b"q\x00h\x00\x86" * 26 + b"K\x01s", id="time"),
        pytest.param(b"cbuiltins\nbytearray\nJ\x00\x00\x00\x10\x85R", id="memory"),
    ],
)
def test_small_pickles_cannot_cost_much(instructions: bytes, tmp_path: Path) -> None:
    """Hostile weight files: a key that takes 2**26 steps to hash, and 256 MB made from nothing."""
    (tmp_path / "w.pth").write_bytes(with_pickle(b"\x80\x02" + instructions + b"."))
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"w\.pth"):
        load_weights(tmp_path / "w.pth")
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 2**24
    assert time.process_time() - start < 0.5
