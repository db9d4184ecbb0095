"""FitNets, Eq. 3, divided by the number of cells, by loops."""

from __future__ import annotations

from case import Case
from torch import Tensor

from xtask_reg.losses.hint import HintLoss, hint_loss


def reference(student: Tensor, teacher: Tensor, reduction: str) -> float:
    total = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        cells = [(a - b) ** 2 for a, b in zip(s.ravel(), t.ravel(), strict=True)]
        total += 0.5 * sum(cells) / len(cells)
    return total / len(student) if reduction == "mean" else total


CASES = [
    Case(
        function=hint_loss,
        module=HintLoss,
        reference=reference,
        defaults={"reduction": "mean"},
        options=[{}, {"reduction": "sum"}],
        shapes=[(3, 4, 3, 2), (1, 3), (4, 5), (2, 3, 7), (2, 2, 2, 3, 2), (3, 1, 4, 4)],
        bad_shapes=[
            *[((2, 3, 4, 4), other) for other in [(2, 3, 4, 5), (2, 5, 4, 4), (3, 3, 4, 4), (1, 3, 4, 4), (2, 3)]],
            ((3,), (3,)),
        ],
        unchanged_by=("images", "channels", "resolution"),
    )
]
