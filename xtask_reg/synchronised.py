"""Checks that trainable connectors are synchronised between the processes of a distributed run."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from xtask_reg.processes import in_several_processes


def check_synchronised(regularizer: nn.Module) -> None:
    """Refuse, in a forward pass, parameters that would drift apart between the processes.

    Without gradients (a validation, perhaps in one process only) none do.

    Raises:
        RuntimeError: if the regularizer has trainable parameters, and neither is DDP active nor are they sharded.
    """
    trains = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in regularizer.parameters())
    if trains and in_several_processes() and not _is_synchronised(regularizer):
        raise RuntimeError(
            "the regularizer has trainable connectors but is called outside DistributedDataParallel, which would "
            "let them drift apart between the processes: wrap xtask_reg.Regularized(student, regularizer) in DDP, "
            "or shard it, fully_shard(regularizer), before what owns it"
        )


def _is_synchronised(regularizer: nn.Module) -> bool:
    if getattr(DistributedDataParallel, "_active_ddp_module", None) is not None:
        return True
    from torch.distributed.fsdp import FSDPModule

    return isinstance(regularizer, FSDPModule)
