"""The outputs of one teacher at one tap, by image: a folder of record files, one per writing process."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from xtask_reg.caching.raw_bytes import raw_bytes
from xtask_reg.caching.record_file import BEFORE_CONTENT, SUFFIX, ForeignFileError, RecordFile, RecordWriter


@dataclass(frozen=True)
class Layout:
    """How an output is stored.

    Args:
        shape: of the output for one image.
        dtype: of the teacher's output.
        stored: dtype in the file.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    stored: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes per image in the file."""
        return math.prod(self.shape) * self.stored.itemsize

    def to_header(self) -> dict[str, Any]:
        """The fields of a file's header."""
        return {"shape": self.shape, "dtype": str(self.dtype), "stored": str(self.stored)}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Self:
        """The layout that a file's header states.

        Raises:
            ForeignFileError: if it states none.
        """
        try:
            dtypes: list[Any] = [
                getattr(torch, str(header[name]).removeprefix("torch."), None) for name in ("dtype", "stored")
            ]
            layout = cls(tuple(map(int, header["shape"])), *dtypes)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ForeignFileError(f"its header is incomplete or invalid: {error}") from error
        if not all(isinstance(dtype, torch.dtype) for dtype in dtypes) or min(layout.shape, default=1) < 1:
            raise ForeignFileError("its header names an impossible shape or an unknown dtype")
        return layout


class Store:
    """The entries of one folder. Files of other processes are read as well, but never written to.

    Args:
        folder: created with the first entry.
        identity: fields that the header of each of its files must have.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        self.folder = folder
        self._layout: Layout | None = None
        self._identity = dict(identity)
        self._files: dict[str, RecordFile | None] = {}
        self._places: dict[bytes, tuple[RecordFile, int]] = {}
        self._writer: RecordWriter | None = None

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def has_from_elsewhere(self, key: bytes) -> bool:
        """Whether there is an entry, written by another process."""
        return key in self and (self._writer is None or self._places[key][0].path != self._writer.path)

    def refresh(self) -> None:
        """Read the entries that other processes have added."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            self._read(path)

    def _read(self, path: Path) -> None:
        is_new = path.name not in self._files
        try:
            file = self._opened(path) if is_new else self._files[path.name]
            if file is None:
                return
            damaged = file.damaged
            for key, place in file.new_records(self.layout.nbytes):
                self._places[key] = (file, place)
            self._warn(path, file.damaged - damaged, is_new and file.has_unfinished(self.layout.nbytes))
        except (ForeignFileError, OSError, ValueError) as error:
            self._files[path.name] = None
            warnings.warn(f"{path} is left alone, and what it may contain is computed again: {error}")

    def _opened(self, path: Path) -> RecordFile:
        file = RecordFile(path)
        if {key: file.header.get(key) for key in self._identity} != self._identity:
            raise ForeignFileError("according to its header it belongs to another teacher, tap or kind of image")
        layout = Layout.from_header(file.header)
        if self._layout not in (None, layout):
            raise ForeignFileError(f"it stores {layout}, the other files {self._layout}")
        self._layout = layout
        self._files[path.name] = file
        return file

    @staticmethod
    def _warn(path: Path, damaged: int, is_unfinished: bool) -> None:
        if damaged:
            warnings.warn(f"{path}: {damaged} damaged entries are computed again; delete the file to end this warning")
        if is_unfinished:
            warnings.warn(
                f"{path} ends within an entry, which is left out: a process was stopped there, or is still writing"
            )

    def forget_what_was_cut(self) -> None:
        """Drop the entries of files that were truncated since they were read."""
        cut = [file for file in self._files.values() if file is not None and file.was_cut]
        for file in cut:
            warnings.warn(f"{file.path} became shorter while in use: what it contained is computed again")
            self._files[file.path.name] = None
            self._places = {key: place for key, place in self._places.items() if place[0] is not file}
            if self._writer is not None and self._writer.path == file.path:
                self._writer = None

    def use(self, layout: Layout) -> None:
        """Raise ``ValueError`` unless the layout is that of the stored entries."""
        if self._layout not in (None, layout):
            raise ValueError(
                f"the teacher's output at {self._identity['tap']!r} was {self._layout} and is {layout} now, for images "
                "of the same shape: such outputs cannot be cached"
            )
        self._layout = layout

    @property
    def layout(self) -> Layout:
        """The layout of all entries; known from the first file that was read, or the first :meth:`use`."""
        assert self._layout is not None
        return self._layout

    @property
    def record_size(self) -> int:
        """Bytes of a record, which is one image's entry."""
        return self.layout.nbytes + BEFORE_CONTENT

    def write(self, outputs: Mapping[bytes, Tensor]) -> None:
        """Append outputs, which must have the layout in use, under the keys of their images.

        Raises:
            OSError: if they cannot be written.
        """
        try:
            if self._writer is None or not self._writer.is_usable:
                self._writer = RecordWriter(self.folder, {**self._identity, **self.layout.to_header()})
            self._writer.append({key: raw_bytes(output) for key, output in outputs.items()})
        except OSError as error:
            raise OSError(
                error.errno,
                f"the teacher's outputs cannot be stored in {self.folder} ({error.strerror}): choose another folder, "
                "or train without cache",
            ) from error
        self._read(self._writer.path)

    def read(self, keys: list[bytes]) -> Tensor:
        """The outputs of these images, ``(len(keys), *layout.shape)``, on the CPU in the dtype ``layout.stored``."""
        content = torch.empty(len(keys), self.layout.nbytes, dtype=torch.uint8)
        for row, key in zip(content, keys):
            file, place = self._places[key]
            row.copy_(torch.frombuffer(file.content, dtype=torch.uint8, count=self.layout.nbytes, offset=place))
        return content.view(self.layout.stored).view(len(keys), *self.layout.shape)
