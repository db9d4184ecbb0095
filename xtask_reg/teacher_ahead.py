"""A teacher that runs before the student."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from torch import Tensor

from xtask_reg.taps import version_of


@dataclass(frozen=True)
class TeacherAhead:
    """What a teacher gave for images that the student is still to be called with.

    Args:
        images: what it was called with.
        version: of them then, :func:`xtask_reg.taps.version_of`.
        targets: its outputs, by path.
    """

    images: Tensor
    version: int | None
    targets: Mapping[str, Tensor]

    def known(self, images: Tensor | None, paths: Set[str]) -> Mapping[str, Tensor] | None:
        """The targets, if they are those of these images as they are now, and all that is wanted."""
        unchanged = self.version is not None and version_of(self.images) == self.version
        return self.targets if images is self.images and unchanged and paths <= self.targets.keys() else None
