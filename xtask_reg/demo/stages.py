"""Stages of a long job: each is a folder that is made once, and made again when what it was made from changes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any


class Stage:
    """A folder with a note of what it was made from, and of its result once it is complete.

    Args:
        folder: the stage's own folder.
        made_from: anything that JSON or ``str`` can write down: when it changes, the folder is emptied.

    Raises:
        FileExistsError: if the folder is there, not empty, and no stage's: it is left as it is.
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
        """Whether the stage was finished."""
        return self._result.exists()

    @property
    def result(self) -> Any:
        """What :meth:`finish` was given."""
        return json.loads(self._result.read_text())

    def finish(self, result: Any = None) -> None:
        """Mark the stage complete."""
        self._result.write_text(json.dumps(result))

    def _clear(self) -> None:
        """Delete what was made: the result first, so that it never stands for less, and not the note."""
        self._result.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != self._note:
                path.unlink()
