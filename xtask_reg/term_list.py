"""The terms of one regularizer, named or listed, and all the taps that they read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from xtask_reg.kinds import check_kind
from xtask_reg.shorthands import shorthand
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.term import Term, Weight
from xtask_reg.weights.balanced import Balanced


def term_list(
    terms: str | Sequence[Term], student: nn.Module | None, teacher: object, images: Tensor | None
) -> Sequence[Term]:
    """The given terms, or those that a string names.

    Raises:
        ValueError: for a repeated name, one :class:`Balanced` in several terms, an unknown name of a regularizer, or
            names without a student and one teacher in which to find the taps.
        TypeError: for anything that is not a term.
    """
    terms = _by_name(terms, student, teacher, images) if isinstance(terms, str) else terms
    expected = "a list of xr.Term(...), or one string of names joined by ' + '"
    check_kind(terms, Sequence, "the argument terms", expected)
    for term in terms:
        check_kind(term, Term, "one of the terms", expected)
    names = [term.name for term in terms]
    if len(set(names)) < len(names):
        raise ValueError(f"term names {names} are not unique")
    check_balanced_apart(term.weighting for term in terms)
    return terms


def _by_name(names: str, student: nn.Module | None, teacher: object, images: Tensor | None) -> list[Term]:
    if student is None or not (teacher is None or isinstance(teacher, FrozenTeacher)):
        lacking = "the student" if student is None else "one FrozenTeacher(source)"
        raise ValueError(f"terms={names!r}: the taps are found in student and teacher; give the regularizer {lacking}")
    return shorthand(student, teacher, names, images=images)


def check_balanced_apart(weights: Iterable[Weight]) -> None:
    """Raise ``ValueError`` if several terms share one :class:`Balanced`."""
    balanced = [weight for weight in weights if isinstance(weight, Balanced)]
    if len(set(balanced)) < len(balanced):
        raise ValueError("several terms share one Balanced object, which measures a single term: make one for each")


def check_not_balanced(terms: Iterable[Term]) -> None:
    """Raise ``ValueError`` if a term that reads features is :class:`Balanced` against the task's gradient there."""
    names = [term.name for term in terms if isinstance(term.weighting, Balanced) and not term.reads_parameters]
    if names:
        raise ValueError(
            f"the terms {names} are Balanced against the task's gradient at their taps, but the task has none on "
            "images without labels: give them a number, or a schedule"
        )


def student_taps(terms: Iterable[Term]) -> set[str]:
    """The paths of the student whose outputs the terms read."""
    return {term.student for term in terms if not term.reads_parameters}


def teacher_taps(terms: Iterable[Term]) -> list[str]:
    """The paths of the teacher whose outputs the terms read."""
    return [term.teacher for term in terms if term.teacher is not None and not term.reads_parameters]
