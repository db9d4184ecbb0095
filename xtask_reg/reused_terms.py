"""The warning where a term brings along what it learned beside another student."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable, Iterator

from torch import nn

from xtask_reg.term import Term, is_left_out
from xtask_reg.weights.balanced import Balanced

_student_of: weakref.WeakKeyDictionary[Term, weakref.ref[nn.Module]] = weakref.WeakKeyDictionary()
"""The last one for which a regularizer was made of the term."""


def check_made_anew(terms: Iterable[Term], student: nn.Module) -> None:
    """Warn of terms that were another student's and are not as they were made.

    In the next fold of a cross-validation, connectors know images of the fold before, which are test images now.
    """
    for term in terms:
        earlier = _student_of.get(term)
        brought = ", ".join(_brought(term))
        if earlier is not None and earlier() is not student and brought:
            warnings.warn(
                f"term {term.name!r} was used with another student and still has {brought}: make new terms for each "
                "student (for each fold, seed or trial)"
            )
        if not is_left_out(term.weighting):
            _student_of[term] = weakref.ref(student)


def _brought(term: Term) -> Iterator[str]:
    if any(parameter.requires_grad for parameter in term.parameters()):
        yield "the parameters of its connectors"
    if isinstance(term.weighting, Balanced) and term.weighting.measurements:
        yield "what its balanced weight has measured"
    if is_left_out(term.weighting):
        yield "a weight that was set to 0"
