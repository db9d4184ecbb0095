"""The smallest singular values of a batch (Chen et al. 2019), by NumPy's singular value decomposition."""

from __future__ import annotations

import numpy as np
from case import Case
from torch import Tensor

from xtask_reg.losses.batch_spectral_shrinkage import BSSLoss, bss_loss


def reference(student: Tensor, count: int) -> float:
    points = np.array([[channel.mean() for channel in image.reshape(len(image), -1)] for image in student.numpy()])
    singular_values = np.linalg.svd(points, compute_uv=False)
    return float(sum(sorted(singular_values**2)[:count]))


CASES = [
    Case(
        function=bss_loss,
        module=BSSLoss,
        reference=reference,
        defaults={"count": 1},
        options=[{}, {"count": 2}, {"count": 3}, {"count": 100}],
        shapes=[(3, 6, 3, 4), (4, 9), (9, 4), (5, 5), (1, 3), (3, 1), (2, 3, 7), (6, 4, 2, 3, 2)],
        bad_shapes=[((3,), (3,)), ((), ())],
        bad_options={"count": [0, -1, 1.0, True, "1"]},
        unchanged_by=("resolution",),
        alone=True,
    )
]
