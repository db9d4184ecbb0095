"""Checks that teacher and student share no memory: training would change the teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xtask_reg.processes import local_part
from xtask_reg.submodules import check_not_lazy


def check_nothing_shared(teacher: nn.Module, **others: nn.Module) -> None:
    """Raise ``ValueError`` if a parameter or buffer of ``others`` belongs to the teacher, or is still lazy.

    Args:
        teacher: the source network.
        others: modules by their names for the message.
    """
    own = {place for tensor in _tensors(teacher).values() if (place := _storage(tensor))}
    for owner, module in others.items():
        for name, tensor in _tensors(module).items():
            if _storage(tensor) in own:
                raise ValueError(
                    f"{name!r} of the {owner} is the teacher's own tensor: give one of them a copy, "
                    "FrozenTeacher(copy.deepcopy(source)) or retained_classifier(source.fc), and call "
                    "load_state_dict() without assign=True"
                )


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    check_not_lazy(module)
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _storage(tensor: Tensor) -> tuple[torch.device, int] | None:
    """Where a tensor's memory begins; None if it has none (empty, on the meta device, or within ``torch.func``)."""
    try:
        address = local_part(tensor).untyped_storage().data_ptr()
    except NotImplementedError:
        return None
    return (tensor.device, address) if address else None
