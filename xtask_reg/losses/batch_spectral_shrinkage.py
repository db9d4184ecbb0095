"""The smallest singular values of a batch of features (Chen et al. 2019, BSS)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xtask_reg.losses.batch import check_images, embeddings
from xtask_reg.losses.precision import at_least_float32


def bss_loss(student: Tensor, count: int = 1) -> Tensor:
    r"""Sum of the squares of the smallest singular values of the student's features in a batch.

    .. math:: L_{bss}(F) = \sum_{i=1}^k \sigma_{-i}^2, \quad F = [f_1, \dots, f_B]

    with :math:`\sigma_{-i}` the i-th smallest singular value of the B x D matrix of the images' features. It holds down
    the directions in which the source's features have little to give to the target task.

    Source: Chen et al., "Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe Transfer
    Learning", NeurIPS 2019; k = 1, and a weight of 0.001 in the total loss. The value grows with the size of the
    features, and depends on the number of images: a weight found with one batch size does not hold for another.

    Only the student is used. The gradient is finite at singular values that are 0 or repeated. Features that are not
    finite give NaN, not an error.

    Args:
        student: features of the student, shape ``(B, D)``; a feature map ``(B, D, *spatial)`` is averaged over its
            locations, as before a classifier.
        count: k, a whole number above 0; where there are fewer singular values, min(B, D), all of them are taken.

    Returns:
        A scalar, float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if there are no images, the shape is not one of features, or the count is not as described.

    Example:
        >>> bss_loss(torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
        tensor(4.)
    """
    _check_count(count)
    check_images(student)
    student, _ = at_least_float32(student, student)
    # float64, since eigenvalues are squares of the singular values and need twice the digits; autocast leaves it
    points = embeddings(student).double()
    gram = points @ points.T if len(points) <= points.shape[1] else points.T @ points
    finite = gram.isfinite().all()
    squares = torch.linalg.eigvalsh(torch.where(finite, gram, 0.0))
    smallest = squares[:count].clamp_min(0).sum()
    return torch.where(finite, smallest, torch.nan).to(student.dtype)


def _check_count(count: int) -> None:
    if type(count) is not int or count < 1:
        raise ValueError(f"count={count!r}; expected a whole number of singular values above 0")


class BSSLoss(nn.Module):
    """Module form of :func:`bss_loss`, Batch Spectral Shrinkage of Chen et al. 2019.

    In an MMPose config: ``loss=dict(type='BSSLoss')``, in a term without a teacher.
    """

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        _check_count(count)
        self.count = count

    def forward(self, student: Tensor) -> Tensor:
        """See :func:`bss_loss`."""
        return bss_loss(student, self.count)

    def extra_repr(self) -> str:
        return f"count={self.count}"
