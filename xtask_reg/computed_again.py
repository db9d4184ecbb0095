"""Whether a part of a graph is computed again in its backward pass."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.autograd.graph import Node

_REENTRANT = "CheckpointFunctionBackward"


def check_not_computed_again(values: Iterable[Tensor]) -> None:
    """Refuse reentrant activation checkpointing behind values that were computed in eval mode.

    Without it (``use_reentrant=False``) PyTorch sees the difference itself, where there is one.

    Raises:
        RuntimeError: if there is some.
    """
    found: list[Node | None] = [value.grad_fn for value in values]
    seen: set[Node] = set()
    while found:
        node = found.pop()
        if node is None or node in seen:
            continue
        if node.name() == _REENTRANT:
            raise RuntimeError(
                "the student has reentrant activation checkpointing: what is computed again in the backward pass would "
                "be in train mode, while the terms on images without labels want it in eval mode. Switch checkpointing "
                "off (with_cp=False), or compare on the labelled images"
            )
        seen.add(node)
        found += [following for following, _ in node.next_functions]
