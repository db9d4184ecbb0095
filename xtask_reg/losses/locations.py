"""What losses that compare the locations of an image with each other expect."""

from __future__ import annotations

from torch import Tensor


def check_same_locations(student: Tensor, teacher: Tensor, expected: str) -> None:
    """Raise ``ValueError`` unless both are maps of the same images and locations; the channels may differ.

    Args:
        student: features of the student.
        teacher: features of the teacher.
        expected: ``"(images, channels, *spatial)"``, or the dimensions one by one, as in
            ``"(images, channels, height, width)"``.
    """
    dimensions = len(expected.split(", "))
    any_number = "*spatial" in expected
    fits = student.ndim >= dimensions if any_number else student.ndim == dimensions
    if not fits or len(student) != len(teacher) or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must be maps {expected} of the same "
            "images and locations, at least one dimension of these; where they cannot, put a connector before the loss"
        )
