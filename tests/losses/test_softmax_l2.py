from __future__ import annotations

import torch

from xtask_reg.losses.softmax_l2 import softmax_l2_loss


def test_one_hot_against_another_is_2() -> None:
    student, teacher = torch.tensor([[1e4, 0.0, 0.0]]), torch.tensor([[0.0, 1e4, 0.0]])
    assert softmax_l2_loss(student, teacher).item() == 2
