from __future__ import annotations

import pytest
import torch

from xtask_reg.losses.channel_wise import channel_wise_loss
from xtask_reg.losses.kd import kd_loss

MAPS = 3 * torch.randn(2, 2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_each_channel_is_a_classification_of_locations() -> None:
    as_logits = (maps.reshape(2 * 3, 4 * 5) for maps in MAPS)
    assert channel_wise_loss(*MAPS, temperature=3.0).item() == pytest.approx(kd_loss(*as_logits, 3.0).item())


def test_constant_added_to_a_channel_does_not_matter() -> None:
    student, teacher = MAPS
    shift = torch.tensor([5.0, -20.0, 100.0]).view(3, 1, 1)
    assert channel_wise_loss(student + shift, teacher).item() == pytest.approx(channel_wise_loss(*MAPS).item())
