"""Whether this is a distributed run, means over its processes, and this process's part of a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def in_several_processes() -> bool:
    """Whether a process group of more than one process is initialised."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def averaged(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The means of tensors over all processes, in float32. Each process must pass tensors of the same shapes."""
    flat = torch.cat([tensor.float().flatten() for tensor in tensors])
    torch.distributed.all_reduce(flat)
    parts = (flat / torch.distributed.get_world_size()).split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def local_part(tensor: Tensor) -> Tensor:
    """This process's shard if FSDP shards the tensor, else the tensor."""
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local
