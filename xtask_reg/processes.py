"""Whether this is a distributed run, and what of a tensor lies in this process."""

from __future__ import annotations

import torch
from torch import Tensor


def in_several_processes() -> bool:
    """Whether a process group of more than one process was initialised."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def local_part(tensor: Tensor) -> Tensor:
    """The shard of this process, if it is a tensor that FSDP shards; else the tensor."""
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local
