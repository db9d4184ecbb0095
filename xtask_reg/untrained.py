"""The warning where a term's own parameters are in no optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xtask_reg.parameters import sums_of
from xtask_reg.term import Term

STEPS = 3
"""The warning comes after so many updates of the student without one of the connectors."""


@dataclass
class _Seen:
    """The counts of changes at a term's last step, the connectors' first values, and the updates without theirs."""

    student: int
    own: int
    values: Tensor | None
    without: int = 0


class UntrainedConnectors:
    """Warns if a term's own parameters (those of a connector) do not train although the student does.

    Without an optimizer they stay random, or as in the source, and the student is regularized towards something that
    was never fitted. Changes are detected by PyTorch's version counters of the parameters. These miss what FSDP
    gathers, what fused optimizers do and what is written to ``parameter.data``: so the values are compared before the
    warning, and if a fused optimizer has all parameters, there is none.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._settled: set[str] = set()

    def check(self, term: Term, student: Sequence[Tensor]) -> None:
        """Check a term in this step, unless its weight is 0.

        Args:
            term: the term.
            student: the parameters of the student.
        """
        acts = term.weight > 0 and torch.is_grad_enabled()
        if term.name in self._settled or not acts or torch.compiler.is_compiling():
            return
        own = [parameter for parameter in term.parameters() if parameter.requires_grad]
        if not own:
            return
        if term.name not in self._seen:
            self._seen[term.name] = _Seen(_changes(student), _changes(own), sums_of(own))
        last = self._seen[term.name]
        changed = _changes(student)
        if _changes(own) != last.own:
            self._settle(term)
        elif changed != last.student:
            last.student = changed
            last.without += 1
            if last.without == STEPS:
                self._settle(term)
                _warn(term, last.values, sums_of(own))

    def _settle(self, term: Term) -> None:
        self._settled.add(term.name)
        del self._seen[term.name]


def _warn(term: Term, before: Tensor | None, now: Tensor | None) -> None:
    """Warn, unless the values have changed."""
    if before is not None and now is not None and torch.equal(before.to(now.device), now):
        warnings.warn(
            f"the connectors of term {term.name!r} do not train: {STEPS} steps changed the student but not "
            "them; give regularizer.parameters() to the optimizer as well, and add what the regularizer "
            "returns to the loss (or, if they should stay as they are, freeze them by requires_grad_(False))"
        )


def _changes(parameters: Iterable[Tensor]) -> int:
    return sum(parameter._version for parameter in parameters if parameter.requires_grad)
