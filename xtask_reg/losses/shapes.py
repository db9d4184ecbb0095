"""Checks of the shapes of a loss's input."""

from __future__ import annotations

from torch import Tensor

MAPS = "(images, channels, length, *spatial)"
"""The dimensions of features that have locations."""


def check_same_shape(student: Tensor, teacher: Tensor, expected: str = "(images, channels, *spatial)") -> None:
    """Raise ``ValueError`` unless both have the same shape, with as many dimensions as ``expected`` names.

    Args:
        student: features or logits of the student.
        teacher: those of the teacher.
        expected: the dimensions by name; ``*spatial`` stands for any number of them, 0 included.
    """
    if student.shape != teacher.shape or not _has_dimensions(student, expected):
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have the same shape {expected}; "
            "where they cannot, put a connector before the loss"
        )


def check_same_locations(student: Tensor, teacher: Tensor, expected: str = MAPS) -> None:
    """Raise ``ValueError`` unless both are maps of the same images and locations; the channels may differ.

    Args:
        student: features of the student.
        teacher: features of the teacher.
        expected: the dimensions by name, as in :func:`check_same_shape`.
    """
    if not _has_dimensions(student, expected) or student.shape[2:] != teacher.shape[2:] or len(student) != len(teacher):
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must be maps {expected} of the same "
            "images and locations; where they cannot, put a connector before the loss"
        )


def check_several_classes(logits: Tensor) -> None:
    """Raise ``ValueError`` if logits ``(B, C, *spatial)`` have a single class, whose softmax is always 1."""
    if logits.shape[1] == 1:
        raise ValueError(
            f"logits {tuple(logits.shape)} of one class: their softmax is always 1, so that nothing would be "
            "compared. The sigmoid of a score z is the softmax of (0, z): give the source's last layer a second output "
            "of zeros"
        )


def check_some_images(features: Tensor) -> None:
    """Raise ``ValueError`` if a batch is empty."""
    if not len(features):
        raise ValueError("the batch has no images: leave it out, there is nothing to compare")


def _has_dimensions(features: Tensor, expected: str) -> bool:
    names = expected.strip("()").split(", ")
    return features.ndim >= len(names) - 1 if names[-1] == "*spatial" else features.ndim == len(names)


def mean_over_locations(values: Tensor) -> Tensor:
    """One value per image: ``(B,)`` as it is, ``(B, *spatial)`` averaged over locations."""
    return values.flatten(1).mean(dim=1) if values.ndim > 1 else values


def by_location(features: Tensor) -> Tensor:
    """Features ``(B, C, *spatial)`` or ``(B, C)`` as ``(B, C, L)``, one column per location."""
    return features.flatten(2) if features.ndim > 2 else features.unsqueeze(2)
