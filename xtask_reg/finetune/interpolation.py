"""WiSE-FT: interpolates between the weights of the source and of the fine-tuned network (Wortsman et al. 2022)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from xtask_reg.kinds import check_kind

_SHOWN = 5
_EXTRA_STATE = "_extra_state"
"""The last part of the key under which a state dict has a module's state besides tensors."""


def interpolate(source: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    r"""The state dict between the source (``alpha=0``) and the fine-tuned network (``alpha=1``): WiSE-FT.

    .. math:: \theta_\alpha = (1 - \alpha) \, \theta_0 + \alpha \, \theta

    Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022. The running statistics of batch norms
    are interpolated like the weights, though the results are not the statistics of the interpolated network: those
    would have to be estimated anew on training images. Integers (``num_batches_tracked``) and the extra state of
    modules are those of the tuned network.

    Args:
        source: the state dict that the training started from.
        tuned: the state dict that it ended with, with the same names and shapes. Only integers and extra state may be
            in one of the two alone.
        alpha: in [0, 1]. The ends are exact.

    Returns:
        New tensors under the names of ``tuned``, in their order, dtypes and on their devices.

    Raises:
        ValueError: for an alpha outside of [0, 1], or floating point or complex tensors that are in one of the two
            alone or have different shapes.
        TypeError: for a network instead of its state dict.

    Example:
        >>> interpolate({"weight": torch.zeros(2)}, {"weight": torch.ones(2)}, 0.25)
        {'weight': tensor([0.2500, 0.2500])}
    """
    if not (isinstance(alpha, Real) and 0 <= alpha <= 1):
        raise ValueError(f"alpha={alpha!r}; expected a number from 0 (the source) to 1 (the tuned network)")
    for name, weights in (("source", source), ("tuned", tuned)):
        check_kind(weights, Mapping, f"the argument {name}", "tensors by name, network.state_dict()")
    _check_same(source, tuned)
    return {
        name: _between(source[name], value, float(alpha)) if _is_weight(name, value) else _copied(value)
        for name, value in tuned.items()
    }


def _is_weight(name: str, value: object) -> bool:
    is_extra = name.rpartition(".")[2] == _EXTRA_STATE
    return isinstance(value, Tensor) and not is_extra and (value.is_floating_point() or value.is_complex())


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _between(source: Tensor, tuned: Tensor, alpha: float) -> Tensor:
    start, end = source.detach().to(tuned), tuned.detach()
    return torch.where(start == end, end, torch.lerp(start, end, alpha))  # equal infinities have the difference NaN


def _check_same(source: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> None:
    before, after = (
        {name: tuple(value.shape) for name, value in weights.items() if _is_weight(name, value)}
        for weights in (source, tuned)
    )
    found = {
        "in the source alone": [name for name in before if name not in after],
        "in the tuned network alone": [name for name in after if name not in before],
        "of different shapes": [
            f"{name} {before[name]} and {after[name]}"
            for name in before
            if name in after and before[name] != after[name]
        ],
    }
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for what, names in found.items()
        if names
    ]
    if problems:
        raise ValueError(f"source and tuned network are not the same network: {'; '.join(problems)}")
