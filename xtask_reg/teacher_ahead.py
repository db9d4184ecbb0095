"""Outputs of a teacher that runs before the student."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from torch import Tensor

from xtask_reg.taps import Seen


@dataclass(frozen=True)
class TeacherAhead:
    """The teacher's outputs for images with which the student has yet to be called.

    Args:
        images: the images that the teacher was called with.
        targets: the teacher's outputs by path.
    """

    images: Seen
    targets: Mapping[str, Tensor]

    def known(self, images: Tensor | None, paths: Set[str]) -> Mapping[str, Tensor] | None:
        """The targets if they belong to these images, unchanged since, and cover all ``paths``; else None."""
        same = images is self.images.tensor and self.images.is_unchanged
        return self.targets if same and paths <= self.targets.keys() else None
