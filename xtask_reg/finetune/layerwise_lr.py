"""Layer-wise decay of the learning rate: the further a stage is from the output, the slower it trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from xtask_reg.submodules import check_list_of_paths, find_module

HEAD = "head"


def layerwise_lr(
    model: nn.Module, stages: Sequence[str | Sequence[str]], lr: float, decay: float
) -> list[dict[str, Any]]:
    r"""Parameter groups for a ``torch.optim`` optimizer, with a learning rate for each depth of the network.

    .. math:: \eta_i = \eta \cdot d^{\,n - i + 1}, \qquad i = 1 \ldots n

    for n stages from input to output; everything outside of them (the head) has the full rate. Source: Howard and
    Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018 (discriminative fine-tuning), with
    the exponents of Bao et al., "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022.

    A module of the encoder that is in no stage trains like the head, so name the stem too. Parameters that do not
    require gradients are included, since they may be released later.

    Args:
        model: the network to train.
        stages: from input to output, dotted paths of submodules, or lists of those that make one stage together:
            ``[['conv1', 'bn1'], 'layer1', 'layer2']``.
        lr: the head's learning rate, positive.
        decay: d, in (0, 1]; the factor from each stage to the one before it.

    Returns:
        One group a stage, from input to output, and the head's last; each with ``params``, ``lr`` and ``name`` (the
        stage's path, joined by ``+`` if it has several, or ``'head'``). Each parameter is in exactly one of them.

    Raises:
        TypeError: if ``stages`` is a string.
        ValueError: for an unknown path, stages that share a parameter (one lies within the other), or a bad number.

    Example:
        >>> stages = ["encoder.stem", "encoder.layer1", "encoder.layer2"]
        >>> torch.optim.Adam(layerwise_lr(student, stages, lr=1e-3, decay=0.7))
    """
    check_list_of_paths(stages)
    if not (math.isfinite(lr) and lr > 0 and 0 < decay <= 1):
        raise ValueError(f"lr={lr!r} must be positive, and decay={decay!r} in (0, 1]")
    owner: dict[nn.Parameter, str] = {}
    groups = []
    for depth, stage in enumerate(stages):
        paths = [stage] if isinstance(stage, str) else stage
        name = "+".join(paths)
        parameters = list(dict.fromkeys(p for path in paths for p in find_module(model, path).parameters()))
        taken = {owner[parameter] for parameter in parameters if parameter in owner}
        if taken:
            raise ValueError(f"stage {name!r} shares parameters with {sorted(taken)}; name stages that share none")
        owner.update(dict.fromkeys(parameters, name))
        groups.append({"params": parameters, "lr": lr * decay ** (len(stages) - depth), "name": name})
    head = [parameter for parameter in model.parameters() if parameter not in owner]
    return [*groups, {"params": head, "lr": lr, "name": HEAD}]
