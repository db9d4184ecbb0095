"""Notes for the user about a conversion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xtask_reg.data.conversion.faces import Outside
from xtask_reg.data.conversion.formats import LandmarkTable

_DONE = {"clip": "clipped to the border", "mask": "now not annotated"}


def notes_of(table: LandmarkTable, found: Mapping[str, int], outside: Outside) -> Iterator[str]:
    """A sentence about everything that may be unintended.

    Args:
        table: the faces.
        found: how many images were ``turned`` upright, how many are ``dark``, and how many landmarks were ``outside``.
        outside: what became of the latter.
    """
    if found["turned"]:
        yield f"images turned upright by their EXIF orientation: {found['turned']}; check their points"
    if found["dark"]:
        yield f"images that are nearly black: {found['dark']}; 12-bit data in 16 bits? rescale them to 8 bits first"
    if found["outside"]:
        yield f"landmarks outside their images, {_DONE[outside]}: {found['outside']}"
    still = _unmoving(table)
    if still:
        yield f"the same position in all images: {', '.join(still)}; are these columns landmarks?"


def _unmoving(table: LandmarkTable) -> list[str]:
    """Landmarks with the same coordinates in all images, such as one named ``spacing``, from a column ``spacing_x``."""
    if len(table.files) == 1:
        return []
    same = (table.points == table.points[0]).all(axis=(0, 2)) & table.annotated.all(axis=0)
    return [name for name, unmoved in zip(table.names, same) if unmoved]
