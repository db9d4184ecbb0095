"""Pickles that would execute something or cost much time or memory, damaged pickles, and other files."""

from __future__ import annotations

import pickle
import pickletools
import random
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from xtask_reg.sources.numpy_pickle import load_numpy_pickle

ARRAYS = {"fc.weight": np.arange(6, dtype="f4").reshape(2, 3), "fc.bias": np.ones(2)}
VALID = pickle.dumps(ARRAYS, 2)
SHAPE = b"K\x02K\x03\x86"


def read(content: bytes, folder: Path) -> dict[str, Tensor]:
    path = folder / "weights.pkl"
    path.write_bytes(content)
    return load_numpy_pickle(path)


def changed(old: bytes, new: bytes) -> bytes:
    assert VALID.count(old) == 1
    return VALID.replace(old, new)


# Names that a file may not refer to


def call(protocol: int, module: str, name: str, argument: str) -> bytes:
    """Instructions that leave ``module.name(argument)`` on the stack."""
    function = f"c{module}\n{name}\n".encode()
    if protocol == 4:
        function = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"
    return function + b"X" + struct.pack("<I", len(argument)) + argument.encode() + b"\x85R"


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
PLACES = {
    "alone": lambda evil: evil,
    "beside an array": lambda evil: VALID[2:-2] + b"X\x01\x00\x00\x00a" + evil + b"u",
    "as a key": lambda evil: b"}" + evil + b"K\x01s",
    "after the dict": lambda evil: VALID[2:-1] + evil + b"0",
    "as an argument": lambda evil: b"}X\x01\x00\x00\x00a" + RECONSTRUCT + evil + b"\x85Rs",
    "as a state": lambda evil: b"}X\x01\x00\x00\x00a" + RECONSTRUCT + b")R" + evil + b"bs",
}
MKDIR = "__import__('os').mkdir({marker!r})"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("module", "name", "argument", "works"),
    [
        ("os", "mkdir", "{marker}", True),
        ("os", "system", "mkdir {marker}", True),
        ("builtins", "eval", MKDIR, True),
        ("builtins", "exec", MKDIR, True),
        ("numpy", "load", "{marker}", False),
        ("numpy", "ndarray.tofile", "{marker}", False),
        ("_codecs", "encode.__self__", "", False),
        ("torch._utils", "_rebuild_tensor", "", False),
        ("functools", "partial", "", False),
        ("copyreg", "_reconstructor", "", False),
    ],
)
def test_other_names_are_refused(module, name, argument, works, protocol: int, place: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = call(protocol, module, name, argument.format(marker=str(marker)))
    with pytest.raises(ValueError, match=rf"weights\.pkl refers to '{module}\.{name}'.*Expected nothing but a dict of"):
        read(b"\x80\x04" + PLACES[place](evil) + b".", tmp_path)
    assert not marker.exists()
    if works and place == "alone":
        pickle.loads(b"\x80\x04" + evil + b".")
        assert marker.exists(), "the payload does not work, so this test proves nothing"


@pytest.mark.parametrize(
    "instructions",
    [
        *(b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00", b"Pname\n", b"NQ", b"(ios\nsystem\n"),
        *(
            b"N)\x81",
            b"N)}\x92",
            b"\x97",
            b"N\x98",
            b"S'a'\n",
            b"Va\n",
            b"I1\n",
            b"F1\n",
            b"G" + bytes(8),
            b"N2",
            b"\x8f",
        ),
    ],
)
def test_instructions_that_arrays_do_not_need_are_refused(instructions: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights\.pkl has the pickle instruction [A-Z_]+\d?, which is not needed"):
        read(b"\x80\x04" + instructions + b".", tmp_path)


# Files that would cost much


def nested(levels: int) -> bytes:
    """A tuple of twice the same tuple of twice the same ...: hashing it takes 2 ** levels steps."""
    return b")" + b"q\x00h\x00\x86" * levels


DEPTH = b")" + b"\x85" * 200_000
EXPENSIVE = {
    "hash of a key": (b"\x80\x02}" + nested(64) + b"K\x01s.", "keys that are not names"),
    "hash of keys": (b"\x80\x02}(" + nested(64) + b"K\x01u.", "keys that are not names"),
    "hash of a pair": (b"\x80\x02ccollections\nOrderedDict\n](](" + nested(64) + b"K\x01ee\x85R.", "without a name"),
    "far memo": (b"\x80\x02}r\xff\xff\xff\x7f.", "is empty"),
    "depth": (b"\x80\x02" + DEPTH + b".", "does not contain a dict"),
    "depth of a value": (b"\x80\x02}X\x01\x00\x00\x00a" + DEPTH + b"s.", "entry 'a', which is not an array"),
    "depth of a shape": (changed(SHAPE, DEPTH), "'fc.weight', which is empty or does not fit"),
    "dimensions": (changed(SHAPE, b"(" + b"J\xff\xff\xff\x7f" * 200_000 + b"t"), "'fc.weight', which is empty or"),
    "instructions": (b"\x80\x02" + b"(" * 2_000_000 + b".", "more than 1000000 instructions"),
    "one array, many names": (
        VALID[:-1] + b"".join(b"X\x04\x00\x00\x00%04dh\x0bs" % i for i in range(1000)) + b".",
        "arrays that share their data",
    ),
    "promised text": (b"\x80\x02\x8d" + struct.pack("<Q", 2**62) + b".", "cannot be read"),
    "promised bytes": (b"\x80\x02B\xff\xff\xff\xffa.", "cannot be read"),
    "promised frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**63 - 1) + b"}.", "is empty"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", EXPENSIVE)
def test_small_files_cannot_cost_much(name: str, tmp_path: Path) -> None:
    content, message = EXPENSIVE[name]
    start = time.process_time()
    with pytest.raises(ValueError, match=rf"weights\.pkl .*{message}.* dict of numpy arrays"):
        read(content, tmp_path)
    assert time.process_time() - start < 5


# Damaged files, and other formats

UNREADABLE = {
    "empty": b"",
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "sentence": b"I am no pickle.\n",
    "html": b"<!DOCTYPE html><html>404</html>",
    "random": random.Random(1).randbytes(1000),
    "zip": b"PK\x03\x04" + bytes(100),
    "protocol 0": pickle.dumps(ARRAYS, 0),
    "protocol 1": pickle.dumps(ARRAYS, 1),
    **{f"first {size}": VALID[:size] for size in (1, 2, 3, 20, 100, 300, len(VALID) - 1)},
    "text after it": VALID + b"\n",
    "twice": VALID + VALID,
    "two protocols": b"\x80\x02" + VALID,
    "nothing": b"\x80\x02.",
    "mark left": b"\x80\x02}(.",
    "two values": b"\x80\x02}}.",
    "negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "unset memo": b"\x80\x02}h\x00s.",
    "name without an array": VALID[:-2] + b"X\x01\x00\x00\x00au.",
    "call of a number": b"\x80\x02K\x01)R.",
    "raw data is a number": changed(VALID[VALID.index(b"h\x05X\x12") : VALID.index(b'q"t')], b"K\x05"),
    "text beyond latin1": changed(b"\xc2\x80?\x00", "\u0100?\x00".encode()),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_pickle_of_arrays_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights\.pkl cannot be read: expected a pickle .* dict of numpy arrays"):
        read(UNREADABLE[name], tmp_path)


OPCODES = [ord(opcode.code) for opcode in pickletools.opcodes]


def mutated(content: bytes, chance: random.Random) -> bytes:
    result = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        position = chance.randrange(len(result))
        match chance.choice(["flip", "byte", "opcode", "insert", "delete", "repeat", "truncate"]):
            case "flip":
                result[position] ^= 1 << chance.randrange(8)
            case "byte":
                result[position] = chance.randrange(256)
            case "opcode":
                result[position] = chance.choice(OPCODES)
            case "insert":
                result[position:position] = bytes([chance.choice(OPCODES)]) + chance.randbytes(chance.randrange(5))
            case "delete":
                del result[position + 1 : position + chance.randrange(2, 10)]
            case "repeat":
                result[position:position] = result[position : position + chance.randrange(1, 60)]
            case "truncate":
                del result[chance.randrange(1, len(result) + 1) :]
    return bytes(result)


def test_mutated_files_of_python_2_are_read_or_refused(python2_pickle, tmp_path: Path) -> None:
    """Those of Python 3 are in ``test_fuzz.py``."""
    chance, content = random.Random("python 2"), python2_pickle(ARRAYS)
    refused = []
    for _ in range(100):
        try:
            weights = read(mutated(content, chance), tmp_path)
        except ValueError as error:
            refused.append(str(error))
        else:
            assert all(type(key) is str and type(value) is Tensor for key, value in weights.items())
    assert 30 < len(refused) < 100
    assert all("weights.pkl" in message for message in refused)
