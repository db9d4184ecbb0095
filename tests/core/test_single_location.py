"""A warning if a term compares locations and there is only one, and none otherwise."""

from __future__ import annotations

import pytest
import torch
from said import said
from torch import nn

import xtask_reg as xr

SPATIAL = (xr.ChannelWiseLoss(), xr.AttentionTransferLoss(), xr.GramAnchoringLoss(), xr.LocalSimilarityLoss())
OTHERS = (xr.CosineAlignmentLoss(), xr.HintLoss(), xr.ChannelAttentionLoss(), xr.RKDDistanceLoss())


class PicksOne(nn.Module):
    """A loss that fails on noise."""

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        if (student < 0).any():
            raise ValueError("no probabilities")
        return (student - teacher).square().mean()


def warned(loss: nn.Module, side: int, pooled: int) -> list[str]:
    """The warnings where both networks have one architecture."""
    torch.manual_seed(0)
    student, source = (
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Sigmoid(), nn.AdaptiveAvgPool2d(pooled)) for _ in range(2)
    )
    term = xr.Term(loss, student="2", teacher="2", weight=1.0, name="term")
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])
    return said("single location", keep, student, torch.rand(3, 3, side, side))


@pytest.mark.parametrize("loss", SPATIAL, ids=repr)
def test_it_warns_once(loss):
    (message,) = warned(loss, 8, 1)
    assert message.startswith("term 'term': '2' gives (3, 4, 1, 1), a single location")
    assert type(loss).__name__ in message


@pytest.mark.parametrize("loss", SPATIAL, ids=repr)
def test_not_of_several_locations(loss):
    assert warned(loss, 8, 2) == []


@pytest.mark.parametrize("loss", [*OTHERS, PicksOne()], ids=repr)
def test_not_of_losses_that_compare_something_else(loss):
    assert warned(loss, 8, 1) == []
