"""The warning where a term's own parameters are in no optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xtask_reg.term import Term

STEPS = 3
"""After so many updates of the student alone it is said."""
SAMPLE = 100
"""So many values of each parameter are compared before that."""


@dataclass
class _Seen:
    """What a term's parameters are when it first acts, and how often they and the student's have been changed."""

    sample: list[Tensor]
    student: int
    own: int
    without: int = 0


class UntrainedConnectors:
    """Looks whether the parameters of a term (those of a connector) train as the student does, and warns if not.

    They are random, or the source's: where no optimizer has them, the student is held to what nobody fitted. Whether
    a parameter has changed is told by PyTorch's count of its changes in place, without waiting for a GPU. Fused
    optimizers leave it as it is: with one for all nothing is said, and what has one of its own is compared by value.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._settled: set[str] = set()

    def check(self, term: Term, student: Sequence[Tensor]) -> None:
        """Look at a term that acts in this step.

        Args:
            term: whose weight is not 0.
            student: the parameters of the student.
        """
        if term.name in self._settled or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        own = [parameter for parameter in term.parameters() if parameter.requires_grad]
        if not own:
            return
        seen = self._seen.get(term.name)
        if seen is None:
            self._seen[term.name] = _Seen(_sample(own), _changes(student), _changes(own))
        elif _changes(own) != seen.own:
            self._settled.add(term.name)
        elif _changes(student) != seen.student:
            seen.student = _changes(student)
            seen.without += 1
            if seen.without == STEPS:
                self._settled.add(term.name)
                self._warn(term, seen, own)

    def _warn(self, term: Term, seen: _Seen, own: Sequence[Tensor]) -> None:
        if all(map(torch.equal, seen.sample, _sample(own))):
            warnings.warn(
                f"the connectors of term {term.name!r} do not train: {STEPS} steps changed the student and not "
                "them; give regularizer.parameters() to the optimizer as well, and add what the regularizer "
                "returns to the loss (or freeze them, requires_grad_(False), if they are to stay as they are)"
            )


def _sample(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.detach().flatten()[:SAMPLE].clone() for parameter in parameters]


def _changes(parameters: Iterable[Tensor]) -> int:
    return sum(parameter._version for parameter in parameters if parameter.requires_grad)
