"""Reads a pickle as plain values and records: nothing is imported, called or built."""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

_MAX_INSTRUCTIONS = 1_000_000
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "BYTEARRAY8", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}


class RefusedPickleError(ValueError):
    """A pickle with more than plain data; the message says what it does or holds, a predicate without its subject."""


@dataclass(eq=False)
class Global:
    """Something that the pickle would import, as ``module.name``."""

    name: str


@dataclass(eq=False)
class Call:
    """A call that the pickle would make, its arguments, and the state that its result would be given."""

    function: str
    arguments: tuple[object, ...]
    state: object = None


def read_inert_pickle(data: mmap.mmap, allowed: Container[str]) -> object:
    """Interpret a pickle of protocol 2 to 5 that consists of dicts, lists, tuples, strings, bytes, whole numbers and
    calls of the functions ``allowed``; text that Python 2 wrote is decoded as latin-1.

    Python's unpickler is not used. Time and memory are bounded by the file's size and a number of instructions,
    whatever the file contains.

    Raises:
        RefusedPickleError: for any other name, instruction or key, and for more instructions than arrays need.
        Exception: of nearly any type, if the file is damaged or not a pickle.
    """
    machine = _Machine(allowed)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):  # type: ignore[arg-type]  # is read like a file
        if (count == 0) != (opcode.name == "PROTO"):
            raise ValueError("not a pickle of protocol 2 or later")
        if count == _MAX_INSTRUCTIONS:
            raise RefusedPickleError(f"has more than {_MAX_INSTRUCTIONS} instructions")
        machine.step(opcode.name, argument)
    (content,) = machine.stack
    if machine.marks or data.tell() != len(data):
        raise ValueError("the pickle ends in the wrong place")
    return content


class _Machine:
    """The stack machine for which a pickle is a program. A damaged one may give odd values, but never runs anything."""

    def __init__(self, allowed: Container[str]) -> None:
        self.allowed = allowed
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        push, pop = self.stack.append, self.stack.pop
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _ if name in _LITERALS:
                push(argument)
            case "NONE":
                push(None)
            case "NEWTRUE" | "NEWFALSE":
                push(name == "NEWTRUE")
            case "EMPTY_DICT":
                push({})
            case "EMPTY_LIST":
                push([])
            case "EMPTY_TUPLE":
                push(())
            case "MARK":
                self.marks.append(len(self.stack))
            case "TUPLE":
                push(tuple(self._pop_from(self.marks.pop())))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self._pop_last(int(name[-1]))))
            case "APPEND":
                self._append(self._pop_last(1))
            case "APPENDS":
                self._append(self._pop_from(self.marks.pop()))
            case "SETITEM":
                self._set_items(self._pop_last(2))
            case "SETITEMS":
                self._set_items(self._pop_from(self.marks.pop()))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "GLOBAL":
                push(self._global(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                push(self._global(".".join(self._pop_last(2))))
            case "REDUCE":
                push(_called(*self._pop_last(2)))
            case "BUILD":
                state = pop()
                self.stack[-1].state = state
            case _:
                raise RefusedPickleError(f"has the pickle instruction {name}, which is not needed for plain data")

    def _pop_from(self, start: int) -> list[Any]:
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _pop_last(self, count: int) -> list[Any]:
        return self._pop_from(len(self.stack) - count)

    def _append(self, items: list[Any]) -> None:
        self.stack[-1].extend(items)

    def _set_items(self, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        if not all(type(key) is str for key in keys):
            raise RefusedPickleError("has a dict with keys that are not names")
        self.stack[-1].update(zip(keys, values, strict=True))

    def _global(self, name: str) -> Global:
        if name not in self.allowed:
            raise RefusedPickleError(f"refers to {name[:200]!a}: unpickling it could execute arbitrary code")
        return Global(name)


def _called(function: Global, arguments: tuple[object, ...]) -> object:
    if function.name == "collections.OrderedDict" and arguments == ():
        return {}
    return Call(function.name, arguments)
