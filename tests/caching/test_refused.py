"""What a cache refuses before it stores anything, and its messages."""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("capacity", [(6, 1), (3, 2), (1, 6)])
def test_too_many_images(source, images, cached, capacity) -> None:
    teacher = cached(source, images=capacity[0], versions=capacity[1])
    for _ in range(3):
        teacher.features(images, ["layer2"])
    new = torch.cat([images[:2], images[:1] + 0.1])
    message = rf"7 different images, but images={capacity[0]} in versions={capacity[1]} make 6\..*finite set.*without"
    with pytest.raises(ValueError, match=message):
        teacher.features(new, ["layer2"])


def test_continuous_augmentation_in_an_own_loop(source, images, cached) -> None:
    teacher = cached(source, versions=3)
    drawn = torch.rand(4, generator=torch.Generator().manual_seed(0))
    for factor in drawn[:3]:
        teacher.features(images * factor, ["layer2"])
    with pytest.raises(ValueError, match="24 different images.*finite set"):
        teacher.features(images * drawn[3], ["layer2"])


def test_finite_augmentation_is_seen_through(source, images, cached, computed) -> None:
    teacher = cached(source, versions=6)
    steps = [(flip, scale) for flip in (False, True) for scale in (0.8, 1.0, 1.2)] * 3
    total = 0
    for flip, scale in steps:
        resized = nn.functional.interpolate(images.flip(3) if flip else images, scale_factor=scale)
        total += computed(teacher, nn.functional.interpolate(resized, (9, 11)))
    assert total == 6 * len(images) + 1


class BatchStatistics(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features - features.mean(0)


class AcrossTheBatch(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        attention = (features @ features.T).softmax(1)
        return features + attention @ features


class Dropping(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.dropout(features, 0.5)


class AsWideAsTheBatch(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.repeat(1, len(features))


class NotFiniteBesideOthers(nn.Module):
    """Gives something else in one place, where alone it gives 0."""

    def forward(self, features: Tensor) -> Tensor:
        first = torch.arange(features.shape[1]) == 0
        return features.masked_fill(first, 0.0 if len(features) == 1 else torch.nan)


@pytest.mark.parametrize("layer", [BatchStatistics, AcrossTheBatch, Dropping, AsWideAsTheBatch, NotFiniteBesideOthers])
def test_output_that_depends_on_the_batch_or_chance(source, images, cached, tmp_path, layer) -> None:
    source.fc = nn.Sequential(source.fc, layer())
    teacher = cached(source)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"'fc' for an image alone differs.*batch statistics.*or is random"):
            teacher.features(images, ["fc"])
    assert not entries(tmp_path)
    teacher.features(images, ["layer2"])  # which is before that


class Renamed(nn.Linear):
    """Computes something else than the original class of the same name."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).tanh()


def test_code_that_changed_between_runs(source, images, cached, monkeypatch) -> None:
    source.fc = Renamed(6, 5)
    cached(source).features(images, ["layer2", "fc"])
    monkeypatch.setattr(Renamed, "forward", lambda self, x: 1.05 * nn.Linear.forward(self, x).tanh())
    teacher = cached(source)
    teacher.features(images, ["layer2"])
    with pytest.raises(ValueError, match=r"'fc' for an image alone.*stored in .*fc-.*code changed.*delete that folder"):
        teacher.features(images, ["fc"])


def test_code_that_changed_is_seen_at_the_first_hit(source, images, cached, monkeypatch) -> None:
    """Also where other images were computed, and stored, before that."""
    source.fc = Renamed(6, 5)
    cached(source).features(images[:3], ["fc"])
    monkeypatch.setattr(Renamed, "forward", lambda self, x: 1.05 * nn.Linear.forward(self, x).tanh())
    teacher = cached(source)
    for _ in range(2):
        teacher.features(images[3:], ["fc"])
    with pytest.raises(ValueError, match="code changed"):
        teacher.features(images[2:5], ["fc"])


class OneForAll(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.mean()


class Halved(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features[::2]


@pytest.mark.parametrize("layer", [OneForAll, Halved])
def test_not_one_entry_an_image(source, images, cached, tmp_path, layer) -> None:
    source.fc = nn.Sequential(source.fc, layer())
    with pytest.raises(ValueError, match=r"'fc' gave \((3, 5)?\) for 6 images; a cache needs one entry for each image"):
        cached(source).features(images, ["fc"])
    assert not entries(tmp_path)


class Positive(nn.Module):
    """Returns only the positive outputs, so that the shape depends on the image."""

    def forward(self, features: Tensor) -> Tensor:
        return features[:, features[0] > 0]


def test_another_shape_for_another_image(source, images, cached) -> None:
    source.fc = nn.Sequential(nn.Linear(6, 5), Positive())
    nn.init.zeros_(source.fc[0].weight)
    source.fc[0].bias.data = torch.arange(5.0)
    teacher = cached(source)
    teacher.features(images[:1], ["fc"])
    source.fc[0].forward = lambda features: torch.ones(len(features), 5)
    with pytest.raises(ValueError, match=r"'fc' was Layout\(shape=\(4,\).* and is Layout\(shape=\(5,\)"):
        teacher.features(images[1:2], ["fc"])


def test_too_large_for_the_stored_precision(source, images, cached, tmp_path) -> None:
    nn.init.constant_(source.fc.bias, 1e5)
    with pytest.raises(ValueError, match=r"'fc' reaches 1e\+05, but torch.float16 ends at 6.55e\+04.*dtype='bfloat16'"):
        cached(source, dtype="float16").features(images, ["fc"])
    assert not entries(tmp_path)
    assert cached(source, dtype="bfloat16").features(images, ["fc"])["fc"].isfinite().all()


def test_infinite_and_undefined_outputs_are_kept(source, images, cached, by_hand) -> None:
    source.fc.bias.data = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, 1.0])
    for _ in range(2):
        found = cached(source, dtype="float16").features(images, ["fc"])["fc"]
        torch.testing.assert_close(found[:, :3], by_hand(source, images)["fc"][:, :3], equal_nan=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 0}, "images=0; expected a whole number from 1"),
        ({"images": 2.5}, "images=2.5"),
        ({"images": True}, "images=True"),
        ({"images": 5, "versions": -1}, "versions=-1"),
        ({"images": 5, "dtype": "int8"}, "dtype='int8'; expected one of"),
        ({"images": 5, "dtype": "half precision"}, "dtype='half precision'"),
        ({"images": 5, "dtype": torch.complex64}, "torch.complex64"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        xr.TeacherCache(tmp_path, **arguments)


def test_size_is_said_before_anything_is_written(source, images, cached, tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=r"up to 4.9 kB \(fc: 24 entries of 40 B, 0 already stored"):
            cached(source).features(images, ["fc", "layer2"])
    assert not entries(tmp_path)


def test_size_is_that_of_the_files(source, images, cached, tmp_path) -> None:
    """The announced size is that of a full cache without headers; it is announced once."""
    teacher = cached(source, images=6, versions=1, dtype="float16")
    with pytest.warns(UserWarning, match="the cache") as said:
        teacher.features(images[:2], ["layer2"])
    teacher.features(images, ["layer2"])
    assert len(said) == 1
    (file,) = entries(tmp_path)
    content = file.read_bytes()
    header = 16 + int.from_bytes(content[8:12], "little")
    assert re.search(r"up to (\d+) B", str(said[0].message)).group(1) == str(len(content) - header)


def test_whole_cache_says_nothing(source, images, cached) -> None:
    cached(source).features(images, ["layer2"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached(copy.deepcopy(source)).features(images, ["layer2"])
