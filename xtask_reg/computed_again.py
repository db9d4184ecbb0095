"""Detects reentrant activation checkpointing, which computes parts of the graph again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.autograd.graph import Node

from xtask_reg.term import Term

_REENTRANT = "CheckpointFunctionBackward"


class ComputedAgain:
    """Refuses reentrant activation checkpointing in the graph of terms computed with the student in eval mode.

    Each term is checked in the first step in which it acts. With ``use_reentrant=False`` PyTorch itself detects a
    recomputation that differs.
    """

    def __init__(self) -> None:
        self._acted: set[str] = set()

    def check(self, terms: Iterable[Term], values: Mapping[str, Tensor]) -> None:
        """Check the terms of a step, whose weighted values are given by name.

        Raises:
            RuntimeError: if the graph has reentrant checkpointing.
        """
        if torch.compiler.is_compiling():
            return
        acting = {term.name for term in terms if term.weight > 0 and values[term.name].requires_grad}
        if not acting <= self._acted:
            _check(values.values())
            self._acted |= acting


def _check(values: Iterable[Tensor]) -> None:
    found: list[Node | None] = [value.grad_fn for value in values]
    seen: set[Node] = set()
    while found:
        node = found.pop()
        if node is None or node in seen:
            continue
        if node.name() == _REENTRANT:
            raise RuntimeError(
                "the student has reentrant activation checkpointing: the backward pass would compute again in train "
                "mode what the terms on images without labels computed in eval mode. Switch checkpointing off "
                "(with_cp=False), or compare on the labelled images"
            )
        seen.add(node)
        found += [following for following, _ in node.next_functions]
