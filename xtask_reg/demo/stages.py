"""Stages of a long job: each is a folder that is made once, and again when its inputs change."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any


class Stage:
    """A folder with a record of its inputs and, once it is complete, of its result.

    Args:
        folder: the stage's own folder.
        made_from: the inputs, as anything that JSON or ``str`` can write: when they change, the folder is emptied.

    Raises:
        FileExistsError: if the folder exists, is not empty, and does not belong to a stage: it is left unchanged.
    """

    def __init__(self, folder: Path, made_from: Any) -> None:
        self.folder = folder
        self.fingerprint = hashlib.sha256(json.dumps(made_from, default=str).encode()).hexdigest()
        self._note, self._result = folder / "made_from.txt", folder / "result.json"
        if not self._note.exists():
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise FileExistsError(f"{folder} is not empty and not from an earlier demo; choose another --out")
        elif self._note.read_text() != self.fingerprint:
            self._clear()
        self._note.write_text(self.fingerprint)

    @property
    def complete(self) -> bool:
        """Whether the stage is finished."""
        return self._result.exists()

    @property
    def result(self) -> Any:
        """The value that :meth:`finish` was given."""
        return json.loads(self._result.read_text())

    def finish(self, result: Any = None) -> None:
        """Mark the stage complete."""
        self._result.write_text(json.dumps(result))

    def _clear(self) -> None:
        """Delete everything but the record of inputs; the result first, so that it never marks a partial folder."""
        self._result.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != self._note:
                path.unlink()
