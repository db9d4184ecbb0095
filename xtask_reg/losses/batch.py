"""Helpers of losses that compare the images of a batch with each other."""

from __future__ import annotations

from torch import Tensor

from xtask_reg.losses.shapes import by_location, check_some_images


def check_images(*features: Tensor) -> None:
    """Raise ``ValueError`` unless all are ``(B, C)`` or ``(B, C, *spatial)`` with the same B > 0."""
    if any(each.ndim < 2 or len(each) != len(features[0]) for each in features):
        shapes = " and ".join(f"{role} {tuple(each.shape)}" for role, each in zip(("student", "teacher"), features))
        raise ValueError(f"{shapes} must be features (images, channels, *spatial) of the same images")
    check_some_images(features[0])


def embeddings(features: Tensor) -> Tensor:
    """One vector per image: features ``(B, C)`` as they are, maps ``(B, C, *spatial)`` averaged over locations."""
    return by_location(features).mean(dim=2)
