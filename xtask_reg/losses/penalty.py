"""Losses of parameters rather than of features."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Penalty(nn.Module):
    """A loss that a term gives the parameters of its submodules, by name, instead of their outputs.

    ``forward(student, teacher)`` is given the parameters of the student's submodule that the teacher's has too, of the
    same name and shape, and the teacher's. It needs no images, and no call of the teacher.
    """

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        """A scalar."""
        raise NotImplementedError
