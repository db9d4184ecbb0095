"""A warning if the teacher's features are all zero, and none otherwise."""

from __future__ import annotations

import warnings

import pytest
import torch

import xtask_reg as xr


def warned(source, student, term, images) -> list[str]:
    """The warnings of two steps."""
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            student(images)
            keep()
    return [str(each.message) for each in caught if "say nothing" in str(each.message)]


@pytest.mark.parametrize(("size", "shift"), [(0.0, 0.0), (1e-12, 0.0), (1e-5, 0.0), (1.0, 0.0), (1.0, -100.0)])
def test_only_if_all_are_nothing(net, ed, images, size, shift):
    source = net()
    with torch.no_grad():
        for parameter in source.layer2.parameters():
            parameter *= size
        source.layer2[0].bias += shift
    found = warned(source, net(), ed(), images)
    assert len(found) == (size < 1e-8)
    assert all("term 'ed': no feature of the teacher at 'layer2' is above" in each for each in found)
