"""One minus the correlation of each channel (Cao et al. 2022), by SciPy."""

from __future__ import annotations

import numpy as np
from case import Case
from scipy.stats import pearsonr
from torch import Tensor

from xtask_reg.losses.pearson import PearsonLoss, pearson_loss


def reference(student: Tensor, teacher: Tensor) -> float:
    channels = zip(np.moveaxis(student.numpy(), 1, 0), np.moveaxis(teacher.numpy(), 1, 0), strict=True)
    return float(np.mean([0 if s.size == 1 else 1 - pearsonr(s.ravel(), t.ravel()).statistic for s, t in channels]))


CASES = [
    Case(
        function=pearson_loss,
        module=PearsonLoss,
        reference=reference,
        defaults={},
        shapes=[(3, 6, 3, 4), (1, 5, 4, 4), (4, 5), (1, 3), (2, 3, 7), (2, 2, 2, 3, 2), (3, 1, 4, 4)],
        bad_shapes=[
            *[((2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (2, 5, 4, 4), (3, 3, 4, 4), (2, 3)]],
            ((3,), (3,)),
        ],
        unchanged_by=("images", "channels", "resolution"),
        highest=2.0,
    )
]
