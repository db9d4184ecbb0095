"""The warning where channels are last, but the loss expects them in dimension 1."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

from torch import Tensor, nn

from xtask_reg.map_layout import last_width
from xtask_reg.on_noise import value_on_noise
from xtask_reg.term import Read, Term

ADVICE = {
    3: "xr.ChannelsFirst(), xr.TokensToMap(...) or xr.ClassToken()",
    4: "xr.ChannelsFirst()",
    5: "xr.ChannelsFirst()",
}
"""The connector to use on both sides, by number of dimensions."""


class ChannelOrder:
    """Warns, once per term, of tokens ``(B, N, C)`` or maps ``(B, H, W, C)`` compared as if their channels came first.

    The shape alone does not tell. The warning is given for features without a connector, if the tapped module ends in a
    ``Linear`` or ``LayerNorm`` whose width is that of their last dimension and not of their second, and if moving the
    channels to dimension 1 changes the loss.

    Args:
        modules: the student's tapped modules, by path.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._widths = {path: last_width(module) for path, module in modules.items()}
        self._seen: set[str] = set()

    def check(self, term: Term, student: Read, teacher: Read | None) -> None:
        """Warn if the term reads features whose channels are last, and its loss depends on the order."""
        width = self._widths.get(term.student)
        if width is None or term.name in self._seen or not isinstance(student, Tensor):
            return
        assert teacher is None or isinstance(teacher, Tensor)
        self._seen.add(term.name)
        plain = all(isinstance(each, nn.Identity) for each in (term.student_connector, term.teacher_connector))
        last = student.ndim in ADVICE and student.shape[-1] == width != student.shape[1]
        if last and plain and _depends_on_order(term, student, teacher):
            warnings.warn(
                f"term {term.name!r}: {term.student!r} gives {tuple(student.shape)}, judging by its layers with the "
                f"channels last, but {type(term.loss).__name__} expects them in dimension 1: put "
                f"{ADVICE[student.ndim]} on both sides, student_connector and teacher_connector"
            )


def _depends_on_order(term: Term, student: Tensor, teacher: Tensor | None) -> bool:
    """Whether the loss changes with the channels in dimension 1; tried on noise, as the features may still be equal."""
    first, last = (value_on_noise(term, student, teacher, channels=dimension) for dimension in (1, -1))
    return not math.isclose(first, last, rel_tol=1e-4, abs_tol=1e-7)
