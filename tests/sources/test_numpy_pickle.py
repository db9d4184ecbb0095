"""Pickled NumPy arrays: compared with what NumPy reads, and content that is refused."""

from __future__ import annotations

import pickle
import pickletools
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from xtask_reg.sources.numpy_pickle import load_numpy_pickle

EDGES = np.array([0.0, -0.0, 1.5, -2.25, 6e-8, 65504.0, np.inf, -np.inf, np.nan, 1 / 3, 3.0, 7.0])
ARRAYS = {
    **{f"float{size}": EDGES.astype(f"f{size}") for size in (2, 4, 8)},
    "int": np.array([[0, -1], [2**40, -(2**63)]]),
    "big endian": EDGES.astype(">f4").reshape(2, 3, 2),
    "big endian int": np.array([1, 2**40], ">i8"),
    "rows": EDGES.astype("f4").reshape(3, 4),
    "columns": np.asfortranarray(np.arange(24, dtype="f4").reshape(2, 3, 4)),
    "slice": np.arange(24, dtype="f4").reshape(4, 6)[1:3, ::2],
    "scalar": np.array(3),
    "long": np.arange(400, dtype="f4"),
    "é": np.arange(256, dtype="u1").view("f4")[10:20],
}
SMALL = {"fc.weight": np.arange(6, dtype="f4").reshape(2, 3), "fc.bias": np.ones(2)}
VALID = pickle.dumps(SMALL, 2)


def read(content: bytes, folder: Path) -> dict[str, Tensor]:
    path = folder / "weights.pkl"
    path.write_bytes(content)
    return load_numpy_pickle(path)


def assert_same(found: dict[str, Tensor], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        native = value.astype(value.dtype.newbyteorder("="))
        assert (found[key].numpy().dtype, found[key].shape) == (native.dtype, native.shape)
        assert found[key].numpy().tobytes() == native.tobytes()  # signs of zeros and NaN too


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("container", [dict, OrderedDict])
def test_arrays_as_numpy_writes_them(container: type[dict], protocol: int, tmp_path: Path) -> None:
    assert_same(read(pickle.dumps(container(ARRAYS), protocol), tmp_path), ARRAYS)


@pytest.mark.parametrize(
    ("protocol", "new", "old"),
    [
        (2, b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"),
        (3, b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"),
        (4, b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray"),
        (5, b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric"),
    ],
)
def test_arrays_as_numpy_1_writes_them(protocol: int, new: bytes, old: bytes, tmp_path: Path) -> None:
    content = pickle.dumps(SMALL, protocol)
    assert new in content
    content = content.replace(new, old)
    if protocol >= 4:
        content = content[:3] + struct.pack("<Q", len(content) - 11) + content[11:]  # the length of its one frame
    assert_same(read(content, tmp_path), SMALL)


def test_arrays_as_python_2_writes_them(python2_pickle, tmp_path: Path) -> None:
    content = python2_pickle(ARRAYS)
    assert b"numpy._core" not in content
    assert b"_codecs" not in content
    for key, value in pickle.loads(content, encoding="latin1").items():
        np.testing.assert_array_equal(value, ARRAYS[key])
    assert_same(read(content, tmp_path), ARRAYS)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_many_arrays(protocol: int, tmp_path: Path) -> None:
    """What comes late in a file and is repeated, as the second dtype here, has a number of more than a byte."""
    arrays = {f"f{size} {number}": np.ones(number + 1, f"f{size}") for size in (4, 8) for number in range(90)}
    content = pickle.dumps(arrays, protocol)
    assert "LONG_BINGET" in {opcode.name for opcode, *_ in pickletools.genops(content)}
    assert_same(read(content, tmp_path), arrays)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (b"\x8c\x09fc.weight", b"\x8d\x09" + bytes(7) + b"fc.weight"),
        (b"C\x18" + SMALL["fc.weight"].tobytes(), b"\x8e\x18" + bytes(7) + SMALL["fc.weight"].tobytes()),
    ],
    ids=["text", "bytes"],
)
def test_lengths_of_eight_bytes(short: bytes, long: bytes, tmp_path: Path) -> None:
    """As pickles have them for 4 GB and more."""
    content = pickle.dumps(SMALL, 4)
    assert content.count(short) == 1
    content = b"\x80\x04" + content[11:].replace(short, long)  # without a frame
    assert pickle.loads(content).keys() == SMALL.keys()
    assert_same(read(content, tmp_path), SMALL)


def test_an_ordered_dict_as_python_2_writes_it(python2_pickle, tmp_path: Path) -> None:
    """As ``OrderedDict([[name, array], ...])``."""
    pairs = b"".join(b"](%se" % python2_pickle({key: value})[5:-2] for key, value in SMALL.items())
    content = b"\x80\x02ccollections\nOrderedDict\n](" + pairs + b"e\x85R."
    for key, value in pickle.loads(content, encoding="latin1").items():
        np.testing.assert_array_equal(value, SMALL[key])
    assert_same(read(content, tmp_path), SMALL)


def test_tensors_have_memory_of_their_own(tmp_path: Path) -> None:
    weights = read(VALID, tmp_path)
    weights["fc.bias"].zero_()
    assert_same(load_numpy_pickle(str(tmp_path / "weights.pkl")), SMALL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([SMALL["fc.bias"]], "does not contain a dict"),
        (SMALL["fc.bias"], "does not contain a dict"),
        ("text", "does not contain a dict"),
        ({}, "is empty"),
        (OrderedDict(), "is empty"),
        ({"a": [1.5]}, "instruction BINFLOAT"),
        ({"a": 3}, "entry 'a', which is not an array"),
        ({"a": None}, "entry 'a', which is not an array"),
        ({"a": {"b": SMALL["fc.bias"]}}, "entry 'a', which is not an array"),
        ({3: SMALL["fc.bias"]}, "keys that are not names"),
        ({"a": np.array([None, "x"])}, "array 'a', whose dtype is none of torch.float16, .*torch.int64"),
        ({"a": np.array(["x", "y"])}, "array 'a', whose dtype"),
        ({"a": np.zeros(2, "f4,i8")}, "array 'a', whose dtype"),
        ({"a": np.zeros(2, "i4")}, "array 'a', whose dtype"),
        ({"a": np.zeros(2, "c8")}, "array 'a', whose dtype"),
        ({"a": np.zeros(2, "M8[s]")}, "array 'a', whose dtype"),
        ({"a": np.int64(3)}, r"refers to 'numpy\._core\.multiarray\.scalar'"),
        ({"a": np.ma.zeros(2)}, r"refers to 'numpy\.ma"),
        ({"a": torch.ones(2)}, r"refers to 'torch\._utils\._rebuild_tensor_v2'"),
        ({"a": set()}, r"refers to '__builtin__\.set'|EMPTY_SET"),
        ({"a\n\x1b[2J": 1}, r"entry 'a\\n\\x1b\[2J', which"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_other_content_is_refused(content: object, message: str, protocol: int, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"weights\.pkl .*({message}).*\. Expected nothing but a dict of numpy arrays"
    ):
        read(pickle.dumps(content, protocol), tmp_path)


@pytest.mark.parametrize("protocol", [4, 5])
def test_empty_arrays_are_refused(protocol: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="array 'a', which is empty or does not fit its shape"):
        read(pickle.dumps({"a": np.zeros((0, 3))}, protocol), tmp_path)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        (b"K\x06\x85", True),
        (b"K\x03K\x02\x86", True),
        (b"\x8a\x01\x03\x8a\x01\x02\x86", True),
        (b"K\x02K\x04\x86", False),
        (b"J\xfe\xff\xff\xffJ\xfd\xff\xff\xff\x86", False),
        (b"(K\x06\x88t", False),
        (b"](K\x02K\x03e", False),
        (b"(" + b"K\x01" * 40 + b"K\x06t", False),
    ],
    ids=["6", "3 x 2", "3L x 2L", "2 x 4", "-2 x -3", "6 x True", "list", "41 dimensions"],
)
def test_shapes_must_fit_the_data(shape: bytes, fits: bool, tmp_path: Path) -> None:
    content = VALID.replace(b"K\x02K\x03\x86", shape)
    assert content != VALID
    if fits:
        assert read(content, tmp_path)["fc.weight"].flatten().tolist() == [0, 1, 2, 3, 4, 5]
    else:
        with pytest.raises(ValueError, match="array 'fc.weight', which is empty or does not fit its shape"):
            read(content, tmp_path)


def test_paths_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.pkl"):
        load_numpy_pickle(tmp_path / "missing.pkl")
    with pytest.raises(ValueError, match=f"{tmp_path.name} is not a regular file"):
        load_numpy_pickle(tmp_path)


def test_errors_of_the_system_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(Path, "open", refuse)
    (tmp_path / "w.pkl").touch()
    with pytest.raises(PermissionError, match="not yours"):
        load_numpy_pickle(tmp_path / "w.pkl")
