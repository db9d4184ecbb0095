"""Running statistics that later calls of the model do not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def copied_statistics(model: nn.Module) -> Iterator[None]:
    """Inside the block, batch norms that are in train mode use copies of their running statistics.

    The backward pass of a call in eval mode needs these statistics. A call in train mode before that pass changes the
    originals in place without PyTorch noticing, and the gradient would be wrong.
    """
    norms = [module for module in model.modules() if isinstance(module, _NormBase) and module.training]
    originals = [dict(norm._buffers) for norm in norms]
    try:
        for norm in norms:
            norm._buffers.update({name: None if own is None else own.clone() for name, own in norm._buffers.items()})
        yield
    finally:
        for norm, own in zip(norms, originals, strict=True):
            norm._buffers.update(own)
