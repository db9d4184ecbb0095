"""What a notebook shows of an object: its class and settings, no address."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xtask_reg as xr

STUDENT = nn.Conv2d(3, 4, 1)
HALF = xr.InputConvention(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
HALF_SHOWN = "InputConvention(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), channels='rgb', value_range=1.0, size=None)"
ADAPTER = xr.InputAdapter(student=HALF, teacher=HALF)
SHOWN = {
    "Monitor(stages={'conv': 'conv'}, every=20)": lambda folder: xr.Monitor(["conv"], every=20),
    "Monitor(stages=None, every=50)": lambda folder: xr.Monitor(),
    "FrozenTeacher(network=Conv2d)": lambda folder: xr.FrozenTeacher(nn.Conv2d(3, 4, 1)),
    "FrozenTeacher(network=Conv2d, adapter=InputAdapter)": lambda folder: xr.FrozenTeacher(nn.Conv2d(3, 4, 1), ADAPTER),
    "FrozenTeacher(network=Conv2d, cache=TeacherCache('FOLDER', 5, 1, None))": lambda folder: xr.FrozenTeacher(
        nn.Conv2d(3, 4, 1), cache=xr.TeacherCache(folder, images=5)
    ),
    f"InputAdapter(student={HALF_SHOWN}, teacher={HALF_SHOWN})": lambda folder: ADAPTER,
    "<Frozen: 1 modules>": lambda folder: xr.freeze(nn.Sequential(nn.Conv2d(3, 4, 1)), ["0"]),
    "<SelectiveProjectionDecay: weight 0.5, 2 parameters>": lambda folder: xr.SelectiveProjectionDecay(
        torch.optim.SGD(STUDENT.parameters(), lr=0.1), dict(STUDENT.named_parameters()), STUDENT.state_dict(), 0.5
    ),
}


@pytest.mark.parametrize("shown", SHOWN)
def test_shown(shown, tmp_path) -> None:
    assert repr(SHOWN[shown](tmp_path)).replace(str(tmp_path), "FOLDER") == shown


def test_the_window_of_a_classifier_is_shown() -> None:
    assert "window=7" in repr(xr.PooledClassifier(nn.Linear(3, 4), window=7))
