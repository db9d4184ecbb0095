"""The regularizer's place in a framework's checkpoint, beside the plain student's ``state_dict``."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from xtask_reg.regularizer import CrossTaskRegularizer

KEY = "xtask_reg"


def save_state(checkpoint: MutableMapping[str, Any], regularizer: CrossTaskRegularizer | None) -> None:
    """Store trainable connectors and the measurements of balanced weights under :data:`KEY`, if there are any."""
    state = {} if regularizer is None else regularizer.state_dict()
    if state:
        checkpoint[KEY] = {name: tensor.cpu() for name, tensor in state.items()}


def restore_state(checkpoint: Mapping[str, Any], regularizer: CrossTaskRegularizer | None, advice: str) -> None:
    """Resume from what :func:`save_state` saved.

    Args:
        checkpoint: the checkpoint of the training that is resumed.
        regularizer: the regularizer of that training.
        advice: what to do in this framework if the checkpoint has nothing to resume, for the message.

    Raises:
        ValueError: if the regularizer has state to resume and the checkpoint has none.
        RuntimeError: if the checkpoint's state belongs to other terms.
    """
    state = {} if regularizer is None else regularizer.state_dict()
    if regularizer is None or not state:
        return
    if KEY not in checkpoint:
        raise ValueError(
            f"the checkpoint has no {KEY!r} entry, but this run has connectors or weights to resume, {sorted(state)}: "
            f"resume from a checkpoint of the same terms, {advice}"
        )
    regularizer.load_state_dict(checkpoint[KEY])
