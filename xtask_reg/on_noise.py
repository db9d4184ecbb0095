"""What a term says of noise: of features that student and teacher share it may say nothing."""

from __future__ import annotations

import copy
import math

import torch

from xtask_reg.term import Read, Term


@torch.no_grad()
def value_on_noise(term: Term, *read: Read | None, channels: int = 1) -> float:
    """The value of a copy of ``term`` for noise of the shapes of what it ``read``.

    What the term's modules keep or draw stays as it is.

    Args:
        term: whose value.
        read: features of the student and of the teacher; None if there is no teacher.
        channels: the dimension that is moved to 1 before the term sees it.

    Returns:
        The value, not weighted; NaN if the term takes no such features.
    """
    random = torch.Generator().manual_seed(0)
    features = [each for each in read if isinstance(each, torch.Tensor)]
    noise = [torch.randn(each.shape, generator=random).to(each).movedim(channels, 1) for each in features]
    with torch.random.fork_rng(devices=[features[0].device] if features[0].is_cuda else []):
        torch.manual_seed(0)
        try:
            return float(copy.deepcopy(term)(*noise, *[None] * (len(read) - len(noise))))
        except (ValueError, RuntimeError, TypeError):
            return math.nan
