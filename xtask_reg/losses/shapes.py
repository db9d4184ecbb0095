"""What losses expect of the shapes of their input."""

from __future__ import annotations

from torch import Tensor


def check_same_shape(student: Tensor, teacher: Tensor, expected: str = "(images, channels, *spatial)") -> None:
    """Raise ``ValueError`` unless both have one shape of as many dimensions as ``expected`` names.

    Args:
        student: features or logits of the student.
        teacher: those of the teacher.
        expected: the dimensions by name; ``*spatial`` stands for any number of them, 0 included.
    """
    names = expected.strip("()").split(", ")
    fixed = len(names) - ("*spatial" in names)
    enough = student.ndim >= fixed if "*spatial" in names else student.ndim == fixed
    if student.shape != teacher.shape or not enough:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have the same shape {expected}; "
            "where they cannot, put a connector before the loss"
        )


def mean_over_locations(values: Tensor) -> Tensor:
    """One value an image: values ``(B,)`` as they are, those of locations ``(B, *spatial)`` averaged."""
    return values.flatten(1).mean(dim=1) if values.ndim > 1 else values


def by_location(features: Tensor) -> Tensor:
    """Features ``(B, C, *spatial)`` or ``(B, C)`` as ``(B, C, L)``, one column a location."""
    return features.flatten(2) if features.ndim > 2 else features.unsqueeze(2)
