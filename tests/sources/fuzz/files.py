"""Weight files of each kind, damaged where readers depend on them, or in the tensors' bytes."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pickles
import safetensors.torch
import torch

WEIGHTS = {
    "conv.weight": torch.arange(12.0).view(2, 6),
    "conv.bias": torch.tensor([1.0, -1.0]),
    "part": torch.arange(12.0).view(3, 4)[1:, ::2],
    "parameter": torch.nn.Parameter(torch.ones(3).half()),
    "count": torch.tensor(7),
}
ARRAYS = {"fc.weight": np.arange(6, dtype="f4").reshape(2, 3), "fc.bias": np.ones(2), "count": np.array([7])}
SIZES = [0, 1, 2, 8, 20, 45, 46, 48, 100, 2**16 - 1, 2**20, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1]


def saved(**options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": WEIGHTS, "meta": {"epoch": 3, "lr": 0.1}}, buffer, **options)
    return buffer.getvalue()


ARCHIVE = saved()
LEGACY = saved(_use_new_zipfile_serialization=False)
SAFETENSORS = safetensors.torch.save({key: value.detach().contiguous() for key, value in WEIGHTS.items()}, {"a": "b"})
PICKLES = [pickle.dumps(ARRAYS, protocol) for protocol in (2, 3, 4, 5)]


# -- zip archives ------------------------------------------------------------------------------------------------------


def archive_with_other_pickle(chance: random.Random, marker: str) -> bytes:
    """A valid archive around a damaged ``data.pkl``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, pickles.mutated(content, chance, marker) if name.endswith(".pkl") else content)
    return buffer.getvalue()


def archive_with_other_records(chance: random.Random, marker: str) -> bytes:
    """Damage to local headers, the directory, and the records after it."""
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as archive:
        locals_ = [(entry.header_offset, entry.header_offset + 30 + len(entry.filename)) for entry in archive.filelist]
        directory = (archive.start_dir, len(ARCHIVE))
    regions = [directory, directory, (len(ARCHIVE) - 98, len(ARCHIVE)), chance.choice(locals_)]
    return damaged(ARCHIVE, *chance.choice(regions), chance)


def compressed_archive(chance: random.Random, marker: str) -> bytes:
    """Entries of zeros that unpack to more than a hundred times their size, and damage to the records."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2**16)}, buffer)
    packed = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        start, new.comment = new.start_dir, chance.choice([b"", b"PK\x05\x06", b"PK\x05\x06" + bytes(18)])
    content = packed.getvalue()
    return content if chance.random() < 0.2 else damaged(content, start, len(content), chance)


# -- files from before torch 1.6 ---------------------------------------------------------------------------------------


def legacy_with_other_pickle(chance: random.Random, marker: str) -> bytes:
    """Five pickles, one of them damaged, and then the tensors' bytes."""
    parts, stream = [], io.BytesIO(LEGACY)
    for _ in range(5):
        start = stream.tell()
        for _ in pickletools.genops(stream):
            pass
        parts.append(LEGACY[start : stream.tell()])
    place = chance.choice([0, 1, 2, 3, 3, 3, 3, 4])
    parts[place] = pickles.mutated(parts[place], chance, marker)
    return b"".join([*parts, LEGACY[stream.tell() :]])


# -- safetensors -------------------------------------------------------------------------------------------------------


def safetensors_with_other_header(chance: random.Random, marker: str) -> bytes:
    """Another length of the header, other bytes in it, or valid JSON with other content."""
    (size,) = struct.unpack("<Q", SAFETENSORS[:8])
    header, data = json.loads(SAFETENSORS[8 : 8 + size]), SAFETENSORS[8 + size :]
    kind = chance.choice(["length", "bytes", "field", "field", "field", "text"])
    if kind == "length":
        return struct.pack("<Q", chance.choice([*SIZES, size - 1, size + 1])) + SAFETENSORS[8:]
    if kind == "bytes":
        return damaged(SAFETENSORS, 8, 8 + size, chance)
    _change(header, chance)
    text = json.dumps(header)
    if kind == "text":
        name = chance.choice(list(WEIGHTS))
        text = chance.choice(
            [
                *(text.replace("conv.bias", name), text[:-1] + ", " + text[1:], text[:-1], text + " " * 10**6),
                *("[" * 10**5, '{"a":' * 10**5, text.replace("conv", "\\ud800")),
                *(text.replace("[", "[1e400,"), text.replace("[", "[NaN,")),
            ]
        )
    return struct.pack("<Q", len(text)) + text.encode() + data


def _change(header: dict[str, Any], chance: random.Random) -> None:
    entry = header[chance.choice(list(WEIGHTS))]
    match chance.choice(["dtype", "shape", "data_offsets", "field", "whole"]):
        case "dtype":
            entry["dtype"] = chance.choice(["F64", "I8", "BOOL", "U64", "F8_E4M3", "F4", "C64", "F32 ", "", 3, None])
        case "shape":
            entry["shape"] = [chance.choice([*SIZES, 2, 3, 6, -1]) for _ in range(chance.randrange(5))]
        case "data_offsets":
            entry["data_offsets"][chance.randrange(2)] = chance.choice([*SIZES, 2**64, -1, 0.5, "8", [8]])
        case "field":
            del entry[chance.choice(list(entry))]
        case "whole":
            header[chance.choice([*WEIGHTS, "__metadata__", ""])] = chance.choice([entry, {}, [], None, {"a": 1}, "x"])


# -- all of them -------------------------------------------------------------------------------------------------------


def pickled_arrays(chance: random.Random, marker: str) -> bytes:
    return pickles.mutated(chance.choice(PICKLES), chance, marker)


def any_pickle(chance: random.Random, marker: str) -> bytes:
    return chance.choice([pickled_arrays, archive_with_other_pickle, legacy_with_other_pickle])(chance, marker)


def with_other_bytes(content: bytes) -> Callable[[random.Random, str], bytes]:
    """Damage anywhere, which is mostly in the tensors."""
    return lambda chance, marker: damaged(content, 0, len(content), chance)


def damaged(content: bytes, start: int, end: int, chance: random.Random) -> bytes:
    """One to three places in ``start:end`` overwritten with a number, cut out, doubled or filled at random."""
    result = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 3])):
        place = chance.randrange(start, max(start + 1, min(end, len(result))))
        match chance.choice(["bit", "number", "number", "number", "cut", "double", "noise", "truncate"]):
            case "bit":
                result[place : place + 1] = bytes([content[place] ^ 1 << chance.randrange(8)])
            case "number":
                width = chance.choice([2, 4, 8])
                number = chance.choice([*SIZES, len(content), start, end]) % 256**width
                result[place : place + width] = number.to_bytes(width, "little")
            case "cut":
                del result[place : place + chance.randrange(1, 50)]
            case "double":
                result[place:place] = result[place : place + chance.randrange(1, 100)]
            case "noise":
                result[place : place + 4] = chance.randbytes(4)
            case "truncate":
                return bytes(result[:place])
    return bytes(result)


Mutation = Callable[[random.Random, str], bytes]
STRUCTURE: dict[str, tuple[str, Mutation, int]] = {
    "archive, pickle": (".pth", archive_with_other_pickle, 500),
    "archive, records": (".pth", archive_with_other_records, 500),
    "archive, compressed": (".pth", compressed_archive, 100),
    "legacy, pickle": (".pth", legacy_with_other_pickle, 400),
    "safetensors, header": (".safetensors", safetensors_with_other_header, 600),
    "arrays, pickle": (".pkl", pickled_arrays, 500),
}
ANYWHERE: dict[str, tuple[str, Mutation, int]] = {
    "archive": (".pth", with_other_bytes(ARCHIVE), 100),
    "legacy": (".pth", with_other_bytes(LEGACY), 100),
    "safetensors": (".safetensors", with_other_bytes(SAFETENSORS), 100),
    "arrays": (".pkl", with_other_bytes(PICKLES[0]), 100),
    "VGGFace2": (".pkl", any_pickle, 10),
}
