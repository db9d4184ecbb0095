"""A warning if the teacher's features are all zero, and none otherwise."""

from __future__ import annotations

import pytest
import torch
from said import said

import xtask_reg as xr


@pytest.mark.parametrize(("size", "shift"), [(0.0, 0.0), (1e-12, 0.0), (1e-5, 0.0), (1.0, 0.0), (1.0, -100.0)])
def test_only_if_all_are_nothing(net, ed, images, size, shift):
    student, source = net(), net()
    with torch.no_grad():
        for parameter in source.layer2.parameters():
            parameter *= size
        source.layer2[0].bias += shift
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [ed()])
    found = said("say nothing", keep, student, images)
    assert len(found) == (size < 1e-8)
    assert all("term 'ed': no feature of the teacher at 'layer2' is above" in each for each in found)
