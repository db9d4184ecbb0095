"""What MMEngine writes into a checkpoint beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def checkpoint_meta(file: Path) -> dict[str, Any]:
    """What an MMEngine checkpoint says of its run and its data set; empty for any other file."""
    if file.suffix.lower() == ".safetensors":
        return {}
    content = torch.load(file, map_location="cpu", weights_only=True)
    return content["meta"] if {"meta", "state_dict"} <= content.keys() else {}
