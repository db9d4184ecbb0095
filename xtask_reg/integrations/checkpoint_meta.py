"""The metadata that MMEngine writes into a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def checkpoint_meta(file: Path) -> dict[str, Any]:
    """The metadata of an MMEngine checkpoint about its run and data set; empty for any other file."""
    if file.suffix.lower() == ".safetensors":
        return {}
    content = torch.load(file, map_location="cpu", weights_only=True)
    return content["meta"] if {"meta", "state_dict"} <= content.keys() else {}
