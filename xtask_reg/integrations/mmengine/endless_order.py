"""An order of samples that has no end, and can be entered anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class EndlessOrder(Sampler[int]):
    """Indices for ever: each of them once, in random order, then each once again.

    Args:
        length: of what is indexed.
        seed: numbers from which the order follows.
        start: how many indices to leave out at the beginning.
    """

    def __init__(self, length: int, seed: Sequence[int], start: int) -> None:
        self.length, self.seed, self.start = length, seed, start

    def __iter__(self) -> Iterator[int]:
        round_, begun = divmod(self.start, self.length)
        while True:
            order = np.random.default_rng([*self.seed, round_]).permutation(self.length)
            yield from order[begun:].tolist()
            round_, begun = round_ + 1, 0
