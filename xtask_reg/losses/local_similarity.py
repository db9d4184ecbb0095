"""Similarities between neighbouring locations (after Yang et al. 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtask_reg.losses.directions import unit
from xtask_reg.losses.precision import at_least_float32, outside_autocast
from xtask_reg.losses.reduction import Reduction, check_reduction, reduce_images
from xtask_reg.losses.shapes import check_same_locations, mean_over_locations
from xtask_reg.losses.temperature import check_temperature


def local_similarity_loss(
    student: Tensor, teacher: Tensor, window: int = 3, temperature: float = 0.1, reduction: Reduction = "mean"
) -> Tensor:
    r"""Divergence between the distributions of each location's similarities to its neighbours.

    .. math:: L = \frac{1}{HW} \sum_p \mathrm{KL}(T_p \,\|\, S_p), \quad
        S_{p, q} = \mathrm{softmax}_{q \in N(p)} \bigl(\cos(s_p, s_q) / \tau\bigr), \quad T \text{ likewise}

    with N(p) the other locations within the ``window`` x ``window`` square around p, fewer at the border.

    Source: Yang et al., "Distilling Knowledge from Graph Convolutional Networks", CVPR 2020 (Eq. 3 to 5), which keeps
    local structure on a given graph with a choice of kernels, without a temperature. Taking the pixels as the graph and
    the cosine as the kernel is this library's adaptation: its range does not depend on the scale or number of the
    channels, and its differences are small, hence the temperature.

    A location whose features are all 0 has the similarity 0 with all others, and gets no gradient. A location without
    neighbours, in a 1 x 1 map, adds 0. Memory: H x W x W numbers per image.

    Args:
        student: features of the student, shape ``(B, C, H, W)``.
        teacher: features of the teacher on the same images, of equal H and W; the channels may differ.
        window: side of the square in cells, odd and at least 3.
        temperature: :math:`\tau`, positive.
        reduction: ``'mean'`` or ``'sum'`` over the images.

    Returns:
        A scalar, float32 even under autocast, float64 for float64 input.

    Raises:
        ValueError: if the shapes do not fit each other, there are no images, or an option is not as described.

    Example:
        >>> student, teacher = torch.tensor([[[[1.0, 1.0, 1.0]]]]), torch.tensor([[[[1.0, 1.0, -1.0]]]])
        >>> local_similarity_loss(student, teacher)
        tensor(0.2310)
    """
    _check_window(window)
    check_temperature(temperature)
    check_reduction(reduction)
    check_same_locations(student, teacher, "(images, channels, height, width)")
    own, source = (_log_shares(features, window, temperature) for features in at_least_float32(student, teacher))
    divergence = F.kl_div(own, source, reduction="none", log_target=True).sum(dim=1)
    return reduce_images(mean_over_locations(divergence), reduction)


def _check_window(window: int) -> None:
    if type(window) is not int or window < 3 or window % 2 == 0:
        raise ValueError(f"window={window!r}; expected an odd number of cells, 3 or more")


def _log_shares(features: Tensor, window: int, temperature: float) -> Tensor:
    """Log-softmax of each location's similarities to its neighbours, shape ``(B, neighbours, H, W)``."""
    rows, reach = unit(features, dim=1).permute(0, 2, 3, 1).contiguous(), window // 2
    height, width = features.shape[2:]
    absent = torch.finfo(features.dtype).min
    planes = [0 * rows[..., 0] + absent]  # keeps a 1 x 1 map in the graph
    for down in range(min(reach + 1, height)):
        with outside_autocast(rows):  # one matrix product of whole rows is faster than one sum per neighbour
            similarities = rows[:, : height - down] @ rows[:, down:].transpose(2, 3) / temperature
        for right in range(max(-reach, 1 - width) if down else 1, min(reach + 1, width)):
            ahead, back = max(right, 0), max(-right, 0)
            similarity = similarities.diagonal(right, 2, 3)
            planes.append(F.pad(similarity, (back, ahead, 0, down), value=absent))
            planes.append(F.pad(similarity, (ahead, back, down, 0), value=absent))
    return torch.stack(planes, dim=1).log_softmax(dim=1)


class LocalSimilarityLoss(nn.Module):
    """Module form of :func:`local_similarity_loss`, after Yang et al. 2020.

    In an MMPose config: ``loss=dict(type='LocalSimilarityLoss', window=3, temperature=0.1)``.
    """

    def __init__(self, window: int = 3, temperature: float = 0.1, reduction: Reduction = "mean") -> None:
        super().__init__()
        _check_window(window)
        check_temperature(temperature)
        check_reduction(reduction)
        self.window = window
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`local_similarity_loss`."""
        return local_similarity_loss(student, teacher, self.window, self.temperature, self.reduction)

    def extra_repr(self) -> str:
        return f"window={self.window}, temperature={self.temperature}, reduction={self.reduction!r}"
