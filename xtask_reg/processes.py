"""Whether this is a distributed run."""

from __future__ import annotations

import torch


def in_several_processes() -> bool:
    """Whether a process group of more than one process was initialised."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
