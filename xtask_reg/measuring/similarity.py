"""Two measures of the similarity between student and source."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from xtask_reg.losses.directions import cosines
from xtask_reg.losses.precision import at_least_float32, outside_autocast
from xtask_reg.losses.shapes import by_location, check_same_shape

CELLS = 8
"""CKA compares maps of at most so many cells a side; larger ones are averaged to that."""


def mean_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """The cosine between the features of student and teacher, each image's map as one vector, averaged over images.

    Args:
        student: features, shape ``(B, C, *spatial)``.
        teacher: features of the same shape.

    Raises:
        ValueError: if the shapes differ.
    """
    check_same_shape(student, teacher)
    student, teacher = (features.flatten(1) for features in at_least_float32(student, teacher))
    return cosines(student, teacher, dim=1).mean()


def linear_cka(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Centered kernel alignment with a linear kernel: 1 if one is a rotation and scaling of the other.

    .. math:: \frac{\lVert Y^\top X \rVert_F^2}{\lVert X^\top X \rVert_F \, \lVert Y^\top Y \rVert_F}

    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019. The rows of X and Y are
    the channel vectors at all locations of all images, columns centered. Maps larger than 8 x 8 cells are averaged to
    that, and maps of different size to the smaller one.

    Args:
        student: features, shape ``(B, C, H, W)`` or ``(B, C)``, or tokens ``(B, N, C)``.
        teacher: features on the same images; the number of channels may differ.

    Returns:
        A scalar from 0 to 1; NaN where one of them is the same everywhere.

    Raises:
        ValueError: if the numbers of images or locations differ.
    """
    both = at_least_float32(student, teacher)
    cells = [min(CELLS, *sizes) for sizes in zip(student.shape[2:], teacher.shape[2:])]
    x, y = (_centered_rows(features, cells) for features in both)
    if len(x) != len(y):
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have the same images and locations"
        )
    with outside_autocast(x):
        if len(x) < min(x.shape[1], y.shape[1]):
            gram_x, gram_y = x @ x.T, y @ y.T
            return (gram_x * gram_y).sum() / (_norm(gram_x) * _norm(gram_y))
        return _norm(y.T @ x) ** 2 / (_norm(x.T @ x) * _norm(y.T @ y))


def _centered_rows(features: Tensor, cells: list[int]) -> Tensor:
    if features.ndim == 4 and len(cells) == 2:
        features = F.adaptive_avg_pool2d(features, (cells[0], cells[1]))
    rows = features if features.ndim == 3 else by_location(features).transpose(1, 2)
    rows = rows.flatten(0, 1)
    rows = rows - rows[0]  # constant features become exactly 0
    rows = rows - rows.mean(dim=0)
    return rows / rows.abs().max()


def _norm(matrix: Tensor) -> Tensor:
    return matrix.square().sum().sqrt()  # norm() loses digits for large matrices on the CPU
