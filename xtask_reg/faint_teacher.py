"""The warning where the teacher's features are all zero."""

from __future__ import annotations

import warnings

from torch import Tensor

from xtask_reg.term import Term

NOTHING = 1e-8
"""Features count as zero if all their absolute values are below this."""


def warn_of_faint_teacher(term: Term, teacher: Tensor) -> None:
    """Warn if the features of a term's teacher are all zero.

    Such features come from a deep network that was never trained, or from dead units. The cosine with a zero vector has
    no gradient, so the term does nothing.
    """
    largest = teacher.abs().amax().item() if teacher.numel() else 1.0
    if largest < NOTHING:
        warnings.warn(
            f"term {term.name!r}: no feature of the teacher at {term.teacher!r} is above {largest:g} in absolute "
            "value, so they say nothing about the images: check that the source was trained, that its weights are "
            "loaded, and that it gets the images that it expects"
        )
