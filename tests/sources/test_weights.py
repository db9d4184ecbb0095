"""Reading and writing weights: hostile and damaged files, and interrupted writes."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from same_tensors import assert_same
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from xtask_reg.sources import load_metadata, load_weights, save_weights

WEIGHTS = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.tensor([1.0, -1.0])}


def saved(content: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def compressed(archive: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def float_entry(*offsets: int) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [4], "data_offsets": list(offsets)}}


# What torch can be trusted with


@pytest.mark.parametrize(
    ("version", "read"), [("2.6.0", False), ("2.9.1+cpu", False), ("2.10.0", True), ("3.0.0", True)]
)
def test_old_torch_reads_safetensors_only(tmp_path, monkeypatch, version, read):
    """Its weights_only has the vulnerability CVE-2026-24747, which does not affect safetensors."""
    torch.save(WEIGHTS, tmp_path / "w.pth")
    save_weights(WEIGHTS, tmp_path / "w.safetensors")
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    assert_same(load_weights(tmp_path / "w.safetensors"), WEIGHTS)
    if read:
        assert_same(load_weights(tmp_path / "w.pth"), WEIGHTS)
        return
    with pytest.raises(RuntimeError, match=rf"w\.pth is not read with torch {re.escape(version)}.*CVE-2026-24747"):
        load_weights(tmp_path / "w.pth")


# Containers


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "meta": {"epoch": 3}, "optimizer": {"state": [torch.zeros(2)]}},
        {"model": WEIGHTS, "epoch": 3},
        {"model": "resnet50", "state_dict": WEIGHTS},
    ],
    ids=["plain", "mmengine", "timm", "named model"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_containers_are_unwrapped(content: object, zipped: bool, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(saved(content, _use_new_zipfile_serialization=zipped))
    assert_same(load_weights(tmp_path / "w.pth"), WEIGHTS)


def test_a_tensor_named_model_is_no_container(tmp_path: Path) -> None:
    weights = {"model": torch.ones(2), "state_dict": torch.ones(3)}
    torch.save(weights, tmp_path / "w.pth")
    assert_same(load_weights(tmp_path / "w.pth"), weights)


def test_parameters_become_plain_tensors(tmp_path: Path) -> None:
    torch.save({"a": nn.Parameter(torch.ones(2))}, tmp_path / "w.pth")
    value = load_weights(str(tmp_path / "w.pth"))["a"]
    assert type(value) is Tensor
    assert not value.requires_grad


def test_tensors_from_a_gpu_are_read_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file names the device of each tensor; this one has 100 devices."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:99")
        torch.save(WEIGHTS, tmp_path / "w.pth")
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "w.pth")
    assert_same(load_weights(tmp_path / "w.pth"), WEIGHTS)


def test_symlinks_are_followed(tmp_path: Path) -> None:
    save_weights(WEIGHTS, tmp_path / "w.safetensors")
    (tmp_path / "link.safetensors").symlink_to("w.safetensors")
    assert_same(load_weights(tmp_path / "link.safetensors"), WEIGHTS)


# Files that cannot be read


class Executes:
    """If unpickled without restriction, it calls ``function(*arguments)``."""

    def __init__(self, function: Callable[..., object], *arguments: str) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return self.call


@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"state_dict": WEIGHTS, "meta": evil}])
@pytest.mark.parametrize(
    "serialize",
    [saved, lambda evil: saved(evil, _use_new_zipfile_serialization=False), lambda evil: pickle.dumps(evil, 2)],
    ids=["zip", "legacy", "pickle"],
)
@pytest.mark.parametrize("function", [shutil.copyfile, os.mkdir], ids=["unknown", "blocked"])
@pytest.mark.parametrize("permission", ["0", "1"])
def test_a_pickle_executes_nothing(permission, function, serialize, wrap, tmp_path: Path, monkeypatch) -> None:
    """Not even where the environment lets ``torch.load`` execute code, as for old checkpoints of other libraries."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", permission)
    marker, path = tmp_path / "marker", tmp_path / "w.pth"
    arguments = (str(marker),) if function is os.mkdir else (str(path), str(marker))
    path.write_bytes(serialize(wrap(Executes(function, *arguments))))
    with pytest.raises(ValueError, match=r"w\.pth holds more than tensors .*trust.*torch\.save"):
        load_weights(path)
    assert not marker.exists()
    with suppress(Exception):
        torch.load(path, weights_only=False)
    assert marker.exists(), "the payload does not work, so this test proves nothing"


@pytest.fixture
def _nothing_allowed():
    """As in a process where nobody called ``add_safe_globals``."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(allowed)


@pytest.mark.usefixtures("_nothing_allowed")
@pytest.mark.parametrize("scalar", [np.float64(1), Fraction(1, 2)])
def test_harmless_types_are_refused_unless_they_were_allowed(scalar: object, tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, "meta": scalar}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds more than tensors"):
        load_weights(tmp_path / "w.pth")
    allowed = [Fraction, np._core.multiarray.scalar, np.dtype, np.dtypes.Float64DType]
    with torch.serialization.safe_globals(allowed):
        assert_same(load_weights(tmp_path / "w.pth"), WEIGHTS)


DAMAGED = {
    "empty.pth": b"",
    "text.pth": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "html.pth": b"<!DOCTYPE html><html>404</html>",
    "bytes.pth": bytes(range(256)) * 4,
    "truncated.pth": saved(WEIGHTS)[:-200],
    "truncated_legacy.pth": saved(WEIGHTS, _use_new_zipfile_serialization=False)[:-8],
    "compressed.pth": compressed(saved({"a": torch.zeros(2**18)})),
    "pickle4.pth": pickle.dumps({"a": 1}, 4),
    "empty.safetensors": b"",
    "text.safetensors": b"version https://git-lfs.github.com/spec/v1\n",
    "truncated.safetensors": safetensors_bytes(float_entry(0, 16), bytes(8)),
    "truncated_header.safetensors": safetensors_bytes(float_entry(0, 16), bytes(16))[:20],
    "huge_header.SAFETENSORS": struct.pack("<Q", 2**62) + b"{}",
    "bad_offsets.safetensors": safetensors_bytes(float_entry(0, 2**40), bytes(16)),
    "torch.safetensors": saved(WEIGHTS),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name])
    expected = "safetensors file" if name.lower().endswith("safetensors") else "torch.save"
    with pytest.raises(ValueError, match=rf"{name} cannot be read: expected .*{expected}.* download or export"):
        load_weights(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        3,
        [torch.ones(1)],
        {},
        {"epoch": 3},
        {"state_dict": {}},
        {3: torch.ones(1)},
        {"model": {"w": torch.ones(1), "step": 3}},
        {"w": torch.ones(1), "step": 3},
    ],
)
def test_files_without_a_state_dict_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth has no state dict: expected .*'state_dict' or 'model', got"):
        load_weights(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.filterwarnings("ignore:.*quantiz")
@pytest.mark.parametrize(
    "value",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.ones(2, device="meta"),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "quantized"],
)
def test_tensors_without_dense_values_are_refused(value: Callable[[], Tensor], tmp_path: Path) -> None:
    torch.save({"odd": value()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="odd is a sparse, quantized or meta tensor"):
        load_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("read", [load_weights, load_metadata])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_is_refused(read: Callable[[Path], object], suffix: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing" + suffix):
        read(tmp_path / f"missing{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(ValueError, match=f"folder{suffix} is not a regular file"):
        read(tmp_path / f"folder{suffix}")


@pytest.mark.parametrize(
    ("name", "reader"), [("w.pth", "torch.load"), ("w.safetensors", "safetensors.torch.load_file")]
)
def test_errors_of_the_system_are_passed_on(name: str, reader: str, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("not yours")

    (tmp_path / name).touch()
    monkeypatch.setattr(reader, refuse)
    with pytest.raises(PermissionError, match="not yours"):
        load_weights(tmp_path / name)


def test_missing_safetensors_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(WEIGHTS, tmp_path / "w.safetensors")
    for name in [name for name in sys.modules if name.partition(".")[0] == "safetensors"]:
        monkeypatch.setitem(sys.modules, name, None)
    for call in (load_weights, load_metadata, lambda path: save_weights(WEIGHTS, path)):
        with pytest.raises(ImportError, match=r"pip install safetensors, or xtask-reg\[data\]"):
            call(tmp_path / "w.safetensors")


# Writing


def test_round_trip(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(4, 6)
    weights = {
        "bf16": torch.randn(3).bfloat16(), "half": torch.randn(3).half(), "double": torch.randn(2).double(),
        "count": torch.tensor(7), "empty": torch.zeros(0, 3), "flag": torch.tensor([True, False]),
        "transposed": base.T, "part": base[1:3, ::2], "row": base[0], "base": base, "expanded": base[:1].expand(3, 6),
        "parameter": nn.Parameter(torch.ones(2)),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }  # fmt: skip
    save_weights(weights, tmp_path / "w.safetensors", {"channels": "rgb", "note": "é\n"})
    assert_same(load_weights(tmp_path / "w.safetensors"), {key: value.detach() for key, value in weights.items()})
    assert load_metadata(tmp_path / "w.safetensors") == {"channels": "rgb", "note": "é\n"}
    assert sorted(os.listdir(tmp_path)) == ["w.safetensors"]


def test_files_without_metadata(tmp_path: Path) -> None:
    save_weights(WEIGHTS, tmp_path / "w.safetensors")
    torch.save(WEIGHTS, tmp_path / "w.pth")
    assert load_metadata(tmp_path / "w.safetensors") == load_metadata(tmp_path / "w.pth") == {}


def test_damaged_metadata(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"w\.safetensors cannot be read"):
        load_metadata(tmp_path / "w.safetensors")


def test_the_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    save_weights(WEIGHTS, tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.safetensors").symlink_to("w.safetensors")
    save_weights(WEIGHTS, tmp_path / "link.safetensors")
    assert (tmp_path / "link.safetensors").is_symlink()
    assert_same(load_weights(tmp_path / "w.safetensors"), WEIGHTS)


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("broken", ["os.replace", "pathlib.Path.write_bytes", "safetensors.torch.save"])
def test_an_interrupted_write_leaves_the_folder_as_it_was(broken, older, tmp_path, monkeypatch) -> None:
    if older:
        save_weights(WEIGHTS, tmp_path / "w.safetensors")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(OSError, match="disk full"):
            save_weights({"new": torch.ones(3)}, tmp_path / "w.safetensors")
    assert os.listdir(tmp_path) == (["w.safetensors"] if older else [])
    if older:
        assert_same(load_weights(tmp_path / "w.safetensors"), WEIGHTS)


@pytest.mark.parametrize(
    ("weights", "name", "error", "message"),
    [
        (WEIGHTS, "w.pth", ValueError, r"w\.pth: expected a name that ends in \.safetensors"),
        (WEIGHTS, "no/w.safetensors", FileNotFoundError, r"there is no folder for .*/no/w\.safetensors; create it"),
        ({}, "w.safetensors", ValueError, r"expected tensors by name .* got entries \{\}"),
        ({"a": 3}, "w.safetensors", ValueError, r"got entries \{'a': 'int'\}"),
        ({"__metadata__": torch.ones(1)}, "w.safetensors", ValueError, r"got entries \{'__metadata__': 'Tensor'\}"),
        (torch.ones(1), "w.safetensors", ValueError, "got a Tensor"),
    ],
)
def test_writing_refuses(weights, name: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        save_weights(weights, tmp_path / name)
    assert os.listdir(tmp_path) == []
