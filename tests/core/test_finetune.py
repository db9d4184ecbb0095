"""Freezing: what must not change, bitwise, and what must."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr

FROZEN = {
    "FE": (["encoder"], []),
    "FTP": (["encoder"], ["encoder.layer4"]),
    "by layers": (["encoder.stem", "encoder.layer1"], []),
    "container that is not called": (["encoder.blocks"], []),
    "nothing": ([], []),
}


class Encoder(nn.Module):
    """A stem, two layers with batch norm and dropout, and a list of blocks that is walked, not called."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)])
        self.layer4 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, images: Tensor) -> Tensor:
        features = self.layer1(self.stem(images))
        for block in self.blocks:
            features = block(features)
        return self.layer4(features)


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))


def train(student: nn.Module, steps: int = 3) -> None:
    optimizer = torch.optim.Adam(student.parameters(), lr=0.1)
    for _ in range(steps):
        student.train()
        optimizer.zero_grad()
        student(torch.randn(4, 3, 6, 6)).square().mean().backward()
        optimizer.step()


def pickled(student: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(student, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("after", [lambda s: s, copy.deepcopy, pickled], ids=["itself", "deepcopy", "pickle"])
@pytest.mark.parametrize("name", FROZEN)
def test_frozen_parts_do_not_change(name: str, after: Callable[[nn.Module], nn.Module]) -> None:
    paths, but = FROZEN[name]
    student = Student()
    xr.freeze(student, paths, but)
    student = after(student)
    before = {key: value.clone() for key, value in student.state_dict().items()}
    train(student)
    for key, value in student.state_dict().items():
        frozen = key.startswith(tuple(paths)) and not key.startswith(tuple(but) or ("-",))
        assert torch.equal(value, before[key]) == frozen, key
    assert all(parameter.grad is not None for parameter in student.parameters() if parameter.requires_grad)


def test_frozen_part_computes_as_in_eval_mode() -> None:
    student, images = Student(), torch.randn(4, 3, 6, 6)
    expected = student.eval().encoder(images)
    xr.freeze(student, ["encoder"])
    torch.testing.assert_close(student.train().encoder(images), expected, rtol=0, atol=0)


def test_compiled_student_stays_frozen() -> None:
    student = Student()
    xr.freeze(student, ["encoder"])
    before = copy.deepcopy(student.encoder.state_dict())
    train(torch.compile(student, backend="aot_eager"))
    torch.testing.assert_close(student.encoder.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("paths", "but", "error", "match"),
    [
        ("encoder", [], TypeError, r"\['encoder'\]"),
        (["encoder"], "encoder.layer4", TypeError, r"\['encoder.layer4'\]"),
        (["encodr"], [], ValueError, "no submodule 'encodr'.*'encoder'"),
        (["encoder"], ["encoder.layer5"], ValueError, "no submodule 'encoder.layer5'.*'encoder.layer4'"),
        (["encoder"], ["decoder"], ValueError, r"\['decoder'\] .* not within"),
    ],
)
def test_bad_paths(paths: list[str], but: list[str], error: type[Exception], match: str) -> None:
    student = Student()
    with pytest.raises(error, match=match):
        xr.freeze(student, paths, but)
    assert all(parameter.requires_grad for parameter in student.parameters())
