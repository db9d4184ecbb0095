"""The keys of entries: another weight, setting, tap, dtype or image means another entry."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr
from xtask_reg.caching import teacher_state
from xtask_reg.caching.teacher_state import TeacherState
from xtask_reg.taps import TapRecorder

IMAGENET, CAFFE = xr.InputConvention(), xr.InputConvention(mean=(0.5, 0.4, 0.3), std=(1, 1, 1), channels="bgr")


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        return images * self.factor


def weight(source: nn.Module) -> None:
    with torch.no_grad():
        source.fc.bias[0] = torch.nextafter(source.fc.bias[0], torch.tensor(9.0))


def hidden_from_the_counter(source: nn.Module) -> None:
    source.layer1.weight.data.mul_(1.1)


def replaced(source: nn.Module) -> None:
    source.layer1.weight.data = source.layer1.weight.data * 1.1


def buffer(source: nn.Module) -> None:
    source.norm.running_mean += 0.1


def loaded(source: nn.Module) -> None:
    source.load_state_dict({key: value * 1.5 for key, value in source.state_dict().items()})


def part(source: nn.Module) -> None:
    source.layer1 = nn.Conv2d(3, 4, 3, stride=2)
    source.layer1.requires_grad_(False)


def precision(source: nn.Module) -> None:
    source.double()


CHANGES = [weight, hidden_from_the_counter, replaced, buffer, loaded, part, precision]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_other_weights_within_a_run(source, images, cached, by_hand, change: Callable[[nn.Module], None]) -> None:
    teacher = cached(source, images=12)
    before = teacher.features(images, ["layer2"])["layer2"]
    change(source)
    if change is hidden_from_the_counter:  # a sample of one tensor a call sees it
        for _ in list(source.state_dict()):
            teacher.features(images, ["layer2"])
    found = teacher.features(images, ["layer2"])["layer2"]
    wanted = by_hand(source, images.to(source.fc.weight.dtype))["layer2"]
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    if change is not weight:  # which is behind the tap
        assert not torch.equal(found.float(), before)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_other_weights_of_the_next_run(source, images, cached, computed, change) -> None:
    cached(source).features(images, ["layer2"])
    change(source)
    other = cached(source)
    assert computed(other, images) == len(images) + 1
    assert computed(other, images) == 0


def stride(source: nn.Module) -> None:
    source.layer1.padding, source.layer1.stride = (2, 2), (3, 3)


def epsilon(source: nn.Module) -> None:
    source.norm.eps = 1e-4


def other_class(source: nn.Module) -> None:
    source.norm.__class__ = type("Other", (nn.BatchNorm2d,), {})


def nested_setting(source: nn.Module) -> None:
    source.options = {"a": [1, (2.5, {"x"})]}


def setting_object(source: nn.Module) -> None:
    source.convention = IMAGENET


def setting_array(source: nn.Module) -> None:
    source.mean = np.full(2000, 0.5)


def setting_scalar(source: nn.Module) -> None:
    source.scale = np.float32(0.25)


def setting_dataclass(source: nn.Module) -> None:
    source.table = Table(torch.zeros(2000))


@dataclass
class Table:
    values: torch.Tensor


@pytest.mark.parametrize(
    ("change", "back"),
    [
        (setting_array, lambda source: source.mean.__setitem__(1000, 0.500001)),
        (setting_scalar, lambda source: setattr(source, "scale", np.float32(0.2500001))),
        (setting_dataclass, lambda source: source.table.values.__setitem__(1000, 1e-6)),
    ],
)
def test_settings_that_differ_in_one_number(source, images, cached, computed, change, back) -> None:
    """At a position that the abbreviated text of an array omits."""
    change(source)
    cached(source).features(images, ["layer2"])
    back(source)
    assert computed(cached(source), images) == len(images) + 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PyTorch, that its quantisation moves to torchao
def test_other_weights_of_a_quantised_layer() -> None:
    """They are neither parameters nor buffers."""

    def digest(seed: int) -> str:
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
        return TeacherState().digest([torch.ao.quantization.quantize_dynamic(network, {nn.Linear})])

    assert digest(0) == digest(0) != digest(1)


@pytest.mark.parametrize(
    "change", [stride, epsilon, other_class, nested_setting, setting_object], ids=lambda change: change.__name__
)
def test_other_settings(source, images, cached, computed, change) -> None:
    """With the same weights."""
    cached(source).features(images, ["layer2"])
    changed = copy.deepcopy(source)
    change(changed)
    assert computed(cached(changed), images) == len(images) + 1
    assert computed(cached(source), images) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (None, Scaled(2.0)),
        (Scaled(2.0), Scaled(2.0000001)),
        (xr.InputAdapter(IMAGENET, IMAGENET), xr.InputAdapter(IMAGENET, CAFFE)),
        (xr.InputAdapter(CAFFE, CAFFE), xr.InputAdapter(CAFFE, xr.InputConvention(mean=CAFFE.mean, std=CAFFE.std))),
        (
            xr.InputAdapter(IMAGENET, xr.InputConvention(size=(8, 8))),
            xr.InputAdapter(IMAGENET, xr.InputConvention(size=(9, 9))),
        ),
    ],
)
def test_other_adapter(source, images, cached, computed, first, second) -> None:
    for adapter in (first, second):
        assert computed(cached(source, adapter), images) == len(images) + 1
    for adapter in (first, second):
        assert computed(cached(source, adapter), images) == 1


def test_part_without_tensors_changed_in_a_run(source, images, cached) -> None:
    source.fc = nn.Sequential(source.fc, nn.ReLU())
    teacher = cached(source, images=12)
    teacher.features(images, ["fc.1"])
    source.fc[1] = nn.Sigmoid()
    torch.testing.assert_close(teacher.features(images, ["fc.1"])["fc.1"], source(images), rtol=0, atol=0)


def test_adapter_changed_in_a_run(source, images, cached, computed) -> None:
    teacher = cached(source, Scaled(2.0))
    for adapter in (Scaled(2.0), Scaled(3.0)):
        teacher.use_adapter(adapter)
        assert computed(teacher, images) == len(images) + 1
        source.seen.images = 0


@pytest.mark.parametrize(
    "changes", [{"dtype": "float16"}, {"dtype": "float64"}, {"folder": "other"}], ids=lambda changes: str(changes)
)
def test_other_storage(source, images, cached, computed, changes, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cached(source).features(images, ["layer2"])
    assert computed(cached(source, **changes), images) == len(images) + 1


def test_other_tap(source, images, cached, computed) -> None:
    teacher = cached(source)
    assert computed(teacher, images, "layer2") == len(images) + 1
    assert computed(teacher, images, "fc") == len(images) + 1
    assert computed(teacher, images, "layer2", "fc") == 0


def last_bit(image: Tensor) -> Tensor:
    image = image.clone()
    image.view(torch.int32)[0, 0, 0] ^= 1
    return image


OTHER_IMAGES = {
    "last bit": last_bit,
    "flipped": lambda image: image.flip(2),
    "negative zero": lambda image: torch.where(image > 0, image, -0.0),
    "precision": lambda image: image.bfloat16().float(),
    "shape": lambda image: image.reshape(3, 11, 9),
}


@pytest.mark.parametrize("change", OTHER_IMAGES)
def test_other_image(source, images, cached, computed, by_hand, change) -> None:
    teacher = cached(source, versions=2)
    if change == "negative zero":
        images = images.clamp(min=0)
    teacher.features(images, ["layer2"])
    other = images.clone()
    changed = OTHER_IMAGES[change](images[2])[None]
    assert computed(teacher, changed) == 1
    found = teacher.features(changed, ["layer2"])["layer2"]
    torch.testing.assert_close(found, by_hand(source, changed)["layer2"])
    assert computed(teacher, other) == 0


def test_other_autocast(source, images, cached, computed) -> None:
    teacher = cached(source)
    assert computed(teacher, images) == len(images) + 1
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert computed(teacher, images) == len(images) + 1
            assert teacher.features(images, ["layer2"])["layer2"].dtype == dtype
    assert computed(teacher, images) == 0


def test_other_precision_of_arithmetic(source, images, cached, computed) -> None:
    cached(source).features(images, ["layer2"])
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert computed(cached(source), images) == len(images) + 1
    finally:
        torch.set_float32_matmul_precision(before)
    assert computed(cached(source), images) == 1


def test_other_version_of_torch(source, images, cached, computed, monkeypatch) -> None:
    cached(source).features(images, ["layer2"])
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    assert computed(cached(source), images) == len(images) + 1


def test_mode_and_hooks_of_taps_do_not_matter(source, images, cached, computed) -> None:
    cached(source).features(images, ["layer2"])
    source.train()
    teacher = cached(source)
    with TapRecorder({"layer1": source.layer1}, owner="student").recording():
        assert computed(teacher, images) == 1


def test_one_cache_for_two_teachers(tmp_path, monkeypatch) -> None:
    """Each teacher is hashed once, not each time that they alternate."""
    described = []
    whole = teacher_state.described
    monkeypatch.setattr(teacher_state, "described", lambda module: described.append(module) or whole(module))
    cache = xr.TeacherCache(tmp_path, images=2)
    networks = [nn.Sequential(nn.Conv2d(3, 4, 3)) for _ in range(2)]
    teachers = [xr.FrozenTeacher(network, cache=cache) for network in networks]
    images = torch.randn(2, 3, 8, 8)
    for _ in range(3):
        for teacher, network in zip(teachers, networks, strict=True):
            torch.testing.assert_close(teacher.features(images, ["0"])["0"], network(images), rtol=0, atol=0)
    assert described == networks
