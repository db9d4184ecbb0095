"""Losses on parameters instead of features."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Penalty(nn.Module):
    """A loss on the parameters of a term's submodules, by name, instead of on their outputs.

    ``forward(student, teacher)`` is given those parameters of the student's submodule that the teacher's submodule has
    under the same name and in the same shape, and the teacher's. It needs no images, and no call of the teacher.
    """

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        """A scalar."""
        raise NotImplementedError
