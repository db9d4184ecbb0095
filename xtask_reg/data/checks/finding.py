"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """An error would harm training or make a test result wrong; a warning may be intended."""

    severity: Literal["error", "warning"]
    file: Path
    message: str
