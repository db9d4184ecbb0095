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


@dataclass
class _Seen:
    """How often the parameters had been changed at a term's last step, and what has become of them since."""

    student: int
    own: int
    without: int = 0


class UntrainedConnectors:
    """Looks whether the parameters of a term (those of a connector) train as the student does, and warns if not.

    They are random, or the source's: where no optimizer has them, the student is held to what nobody fitted. Whether
    anything has changed a parameter is told by the count that PyTorch keeps of its changes in place.
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
        now = _Seen(_changes(student), _changes(own))
        last = self._seen.setdefault(term.name, now)
        if now.own != last.own:
            self._settled.add(term.name)
        elif now.student != last.student:
            now.without = last.without + 1
            self._seen[term.name] = now
            if now.without == STEPS:
                self._settled.add(term.name)
                warnings.warn(
                    f"the connectors of term {term.name!r} do not train: {STEPS} steps changed the student and not "
                    "them; give regularizer.parameters() to the optimizer as well, and add what the regularizer "
                    "returns to the loss (or freeze them, requires_grad_(False), if they are to stay as they are)"
                )


def _changes(parameters: Iterable[Tensor]) -> int:
    return sum(parameter._version for parameter in parameters if parameter.requires_grad)
