"""Damage to pickles, instruction by instruction."""

from __future__ import annotations

import pickletools
import random
import struct

OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
NUMBERS = [-1, 0, 1, 2, 3, 4, 8, 12, 48, 255, 2**15, 2**24, 2**31 - 1, 2**32 - 1, 2**63 - 1]
NAMES = """
torch._utils _rebuild_tensor_v2, torch._utils _rebuild_tensor, torch._utils _rebuild_parameter,
torch._utils _rebuild_sparse_tensor, torch._utils _rebuild_qtensor, torch._tensor _rebuild_from_type_v2,
torch._utils _rebuild_meta_tensor_no_storage, torch.storage UntypedStorage, torch DoubleStorage, torch BoolStorage,
torch QInt8Storage, torch FloatTensor, torch Tensor, torch Size, torch device, torch.nn.parameter Parameter,
torch.serialization _get_layout, collections OrderedDict, collections Counter, builtins set, builtins complex,
_codecs encode, numpy ndarray, numpy dtype, numpy.core.multiarray _reconstruct, numpy.core.numeric _frombuffer,
os system, builtins eval
"""
_INTEGERS = (b"K", b"M", b"J", b"\x8a")


def code(marker: str) -> bytes:
    """Instructions that create the folder ``marker`` when they are executed, and do not change the stack."""
    text = f"__import__('os').mkdir({marker!r})".encode()
    return b"cbuiltins\neval\nX" + struct.pack("<I", len(text)) + text + b"\x85R0"


def mutated(content: bytes, chance: random.Random, marker: str) -> bytes:
    """One to four instructions are changed, removed, repeated, moved or inserted; the first remains."""
    begins = [position for _, _, position in pickletools.genops(content)]
    ops = [content[begin:end] for begin, end in zip(begins, [*begins[1:], len(content)])]
    for _ in range(chance.choice([1, 1, 2, 4])):
        place = chance.randrange(1, len(ops))
        match chance.choice(["number", "name", "opcode", "delete", "repeat", "swap", "insert", "code"]):
            case "number":
                _replace(ops, _INTEGERS, _integer(chance.choice(NUMBERS)), chance)
            case "name":
                _replace(ops, (b"c",), _global(chance.choice(NAMES.split(","))), chance)
            case "opcode":
                ops[place] = chance.choice(OPCODES) + ops[place][1:]
            case "delete":
                ops[place : place + chance.randrange(1, 4)] = [b""]
            case "repeat":
                ops[place:place] = ops[place : place + chance.randrange(1, 30)]
            case "swap":
                other = chance.randrange(1, len(ops))
                ops[place], ops[other] = ops[other], ops[place]
            case "insert":
                ops.insert(place, chance.choice(OPCODES) + chance.randbytes(chance.randrange(9)))
            case "code":
                ops.insert(place, code(marker))
    return b"".join(ops)


def _replace(ops: list[bytes], kinds: tuple[bytes, ...], new: bytes, chance: random.Random) -> None:
    places = [place for place, op in enumerate(ops) if op[:1] in kinds]
    if places:
        ops[chance.choice(places)] = new


def _global(name: str) -> bytes:
    return f"c{name.strip()}\n".replace(" ", "\n").encode()


def _integer(number: int) -> bytes:
    if -(2**31) <= number < 2**31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x09" + number.to_bytes(9, "little", signed=True)
