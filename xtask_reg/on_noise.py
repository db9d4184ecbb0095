"""The value of a term on noise, since features that student and teacher share may give 0."""

from __future__ import annotations

import copy
import math

import torch

from xtask_reg.term import Read, Term


@torch.no_grad()
def value_on_noise(term: Term, *read: Read | None, channels: int = 1) -> float:
    """The value of ``term`` on noise with the shapes of what it ``read``.

    A copy is evaluated, so that the term's state and the random state do not change.

    Args:
        term: the term.
        read: features of the student and of the teacher; None if there is no teacher.
        channels: the dimension to move to dimension 1 first.

    Returns:
        The value, not weighted; NaN if the term does not accept such features.
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
