"""Which modules can be tapped, in a network whose calls are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr
from xtask_reg.tappable import list_taps


class Net(nn.Module):
    """Modules are registered in another order than called; one runs twice, one never, and one returns a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.spare = nn.Conv2d(3, 3, 1)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4))
        self.levels = nn.ModuleList([nn.Conv2d(4, 4, 1, bias=False)])
        self.relu = nn.ReLU(inplace=True)
        self.both = Both()
        self.drop = nn.Dropout()

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.stem(images))
        x, _ = self.both([self.relu(self.levels[0](x)), x])
        return self.head(self.drop(x.mean((2, 3))))


class Both(nn.Module):
    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        return maps[0], maps[1]


EXPECTED = [  # path, type, shape, calls, parameters, reason, joins
    ("stem", "Sequential", (2, 4, 5, 6), 1, 4 * 3 * 9 + 4 + 8, "", False),
    ("stem.0", "Conv2d", (2, 4, 5, 6), 1, 4 * 3 * 9 + 4, "", False),
    ("stem.1", "BatchNorm2d", (2, 4, 5, 6), 1, 8, "", False),
    ("relu", "ReLU", (2, 4, 5, 6), 2, 0, "called 2 times", False),
    ("levels.0", "Conv2d", (2, 4, 5, 6), 1, 16, "", False),
    ("both", "Both", None, 1, 0, "gives a tuple", True),
    ("drop", "Dropout", (2, 4), 1, 0, "", False),
    ("head", "Linear", (2, 2), 1, 10, "", False),
    ("spare", "Conv2d", None, 0, 12, "never called itself", False),
    ("levels", "ModuleList", None, 0, 16, "never called itself", False),
]
IMAGES = torch.rand(2, 3, 9, 11)


@pytest.mark.parametrize(
    "wrap", [lambda net: net, nn.DataParallel, torch.compile], ids=["plain", "wrapped", "compiled"]
)
def test_modules_in_the_order_of_their_calls(wrap):
    found = list_taps(wrap(Net()), IMAGES)
    assert [(t.path, t.type, t.shape, t.calls, t.parameters, t.reason, t.joins) for t in found] == EXPECTED


@pytest.mark.parametrize("tap", [row for row in EXPECTED if row[0] != "levels"], ids=lambda row: row[0])
def test_a_teacher_delivers_just_those_without_a_reason(tap):
    path, _, shape, *_, reason, _ = tap
    teacher = xr.FrozenTeacher(Net())
    if reason:
        with pytest.raises(RuntimeError, match=path):
            teacher.features(IMAGES, [path])
    else:
        assert teacher.features(IMAGES, [path])[path].shape == shape


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_changes(fails):
    net = Net().train()
    net.stem[1].eval()
    seen = []
    net.head.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    modes = {name: module.training for name, module in net.named_modules()}
    state = {name: value.clone() for name, value in net.state_dict().items()}
    hooks = {name: dict(m._forward_hooks | m._forward_pre_hooks) for name, m in net.named_modules()}
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(ValueError, match=r"Net cannot be called with images of shape \(2, 4, 9, 11\): .* channels"):
            list_taps(net, torch.rand(2, 4, 9, 11, generator=torch.Generator()))
    else:
        list_taps(net, IMAGES)
        assert seen == [False]
    assert torch.equal(torch.get_rng_state(), random)
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert {name: dict(m._forward_hooks | m._forward_pre_hooks) for name, m in net.named_modules()} == hooks


class Random(nn.Module):
    """Draws random numbers even in eval mode, and records the mode in which it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.modes: list[bool] = []

    def train(self, mode: bool = True) -> Random:
        raise AssertionError("train() may do more than set a flag")

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.layer(images + torch.rand_like(images))


def test_runs_in_eval_mode_without_moving_the_random_state():
    net, random = Random(), torch.get_rng_state()
    list_taps(net, IMAGES)
    assert net.modes == [False]
    assert net.training
    assert torch.equal(torch.get_rng_state(), random)


def test_the_images_take_the_precision_of_the_model():
    assert [tap.path for tap in list_taps(Net().bfloat16(), IMAGES)] == [row[0] for row in EXPECTED]


class Wants(nn.Module):
    """Requires more than images, like MMPose's estimators."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Flatten()

    def forward(self, images: Tensor, samples: object, *rest: object, mode: str = "tensor", **more: object) -> Tensor:
        assert samples is None
        assert mode == "tensor"
        return self.layer(images)


def test_other_arguments_are_none():
    assert [(tap.path, tap.shape) for tap in list_taps(Wants(), IMAGES)] == [("layer", (2, 3 * 9 * 11))]


def test_lazy_networks_are_refused_and_stay_lazy():
    net = nn.Sequential(nn.LazyConv2d(4, 3))
    with pytest.raises(ValueError, match="lazy parameters: call it once"):
        list_taps(net, IMAGES)
    assert nn.parameter.is_lazy(net[0].weight)


@pytest.mark.parametrize("several", [list, tuple, dict])
def test_modules_that_join_tensors(several):
    class Neck(nn.Module):
        def forward(self, maps):
            return sum(maps.values() if several is dict else maps)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.neck = nn.Conv2d(3, 3, 1), Neck()

        def forward(self, images):
            maps = {"a": images, "b": self.conv(images)}
            return self.neck(maps if several is dict else several(maps.values()))

    taps = xr.list_taps(Model(), torch.rand(1, 3, 4, 4))
    assert {tap.path: tap.joins for tap in taps} == {"conv": False, "neck": True}
