"""The warning where a term carries over what it learned with another student."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable, Iterator

from torch import nn

from xtask_reg.term import Term, is_left_out
from xtask_reg.weights.balanced import Balanced

_student_of: weakref.WeakKeyDictionary[Term, weakref.ref[nn.Module]] = weakref.WeakKeyDictionary()
"""The student of the last regularizer that was built with each term."""


def check_made_anew(terms: Iterable[Term], student: nn.Module) -> None:
    """Warn of terms that were used with another student and still have its state.

    In a cross-validation, connectors of the last fold were trained on images that are test images in the next.
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
