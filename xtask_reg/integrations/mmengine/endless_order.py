"""An endless order of samples that can start anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class EndlessOrder(Sampler[int]):
    """Endless indices: all of them once in random order, then all again in another, and so on.

    Args:
        length: the number of samples.
        seed: numbers that determine the order.
        start: how many indices to skip at the beginning.
    """

    def __init__(self, length: int, seed: Sequence[int], start: int) -> None:
        self.length, self.seed, self.start = length, seed, start

    def __iter__(self) -> Iterator[int]:
        round_, begun = divmod(self.start, self.length)
        while True:
            order = np.random.default_rng([*self.seed, round_]).permutation(self.length)
            yield from order[begun:].tolist()
            round_, begun = round_ + 1, 0
