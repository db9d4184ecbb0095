"""Running statistics that a later call of the model leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def copied_statistics(model: nn.Module) -> Iterator[None]:
    """Inside the block batch norms that are in train mode have copies of their running statistics.

    What they compute in eval mode needs these in its backward pass. A call in train mode before that changes the
    originals in place, and PyTorch does not notice: the gradient would be another one.
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
