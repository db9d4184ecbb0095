"""The outputs from a cache are those of the teacher."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch

import xtask_reg as xr

PATHS = ("layer1", "layer2", "fc")
COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


def assert_equal(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_equal_to_the_bit(source, images, cached, by_hand, passes) -> None:
    wanted = by_hand(source, images)
    for _ in range(passes):
        found = cached(source).features(images, PATHS)
        assert set(found) == set(PATHS)
        for path in PATHS:
            assert_equal(found[path], wanted[path])


@pytest.mark.parametrize("dtype", ["float16", torch.float16])
def test_half_is_numpys_rounding_from_the_first_step_on(source, images, cached, by_hand, dtype) -> None:
    teacher = cached(source, dtype=dtype)
    for path, wanted in by_hand(source, images).items():
        rounded = wanted.numpy().astype(np.float16).astype(np.float32)
        assert np.abs(rounded - wanted.numpy()).max() > 0
        for _ in range(2):
            found = teacher.features(images, [path])[path]
            assert found.dtype == torch.float32
            np.testing.assert_array_equal(found.numpy(), rounded)


def test_bfloat16_is_the_upper_half_of_float32(source, images, cached, by_hand) -> None:
    """Rounded to the nearest, ties to even."""
    bits = by_hand(source, images)["fc"].numpy().view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(cached(source, dtype="bfloat16").features(images, ["fc"])["fc"].numpy(), rounded)


@pytest.mark.parametrize("own", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("stored", [None, "float32"])
def test_teacher_in_another_precision(source, images, cached, by_hand, own, stored) -> None:
    wanted = by_hand(source.to(own), images.to(own))["layer2"]
    wanted = wanted.float().to(own) if stored else wanted
    for _ in range(2):
        assert_equal(cached(source, dtype=stored).features(images, ["layer2"])["layer2"], wanted)


def test_any_order_and_repetition(source, images, cached, computed, by_hand) -> None:
    teacher = cached(source)
    for rows in ([2, 2, 0], [0, 5, 2, 1], [4, 3, 3, 4], [5, 4, 3, 2, 1, 0]):
        batch = images[rows]
        assert_equal(teacher.features(batch, ["layer2"])["layer2"], by_hand(source, images)["layer2"][rows])
    assert source.seen.images == len(images) + 1  # each once, and the one that was audited


def test_one_by_one(source, images, cached, by_hand) -> None:
    teacher = cached(source)
    for _ in range(2):
        for row, image in enumerate(images):
            found = teacher.features(image[None], ["fc"])["fc"]
            torch.testing.assert_close(found, by_hand(source, images)["fc"][row : row + 1])
    assert source.seen.images == len(images)


def test_integers_are_stored_as_they_are(source, images, cached) -> None:
    class Whole(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return (10000 * features).long()  # which float16 would round

    source.fc = torch.nn.Sequential(source.fc, Whole())
    teacher = cached(source, dtype="float16")
    for _ in range(2):
        assert_equal(teacher.features(images, ["fc.1"])["fc.1"], source(images))


def test_the_teacher_rests_where_all_is_stored(source, images, cached) -> None:
    teacher = cached(source)
    wanted = teacher.features(images, ["fc"])["fc"]
    source.layer1.register_forward_pre_hook(lambda *unused: pytest.fail("the teacher runs"))
    assert_equal(teacher.features(images, ["fc"])["fc"], wanted)


def test_folder_stays_where_it_was_when_the_process_moves(source, images, cached, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    teacher = cached(source, folder="relative")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    teacher.features(images, ["fc"])
    assert any((tmp_path / "relative").iterdir())


def test_said_once_how_much_space_it_takes(source, images, cached) -> None:
    teacher = cached(source)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for batch in images.split(2):
            teacher.features(batch, ["layer2", "fc"])
    assert [str(each.message)[:35] for each in said] == ["the cache of the teacher's outputs "]


def test_teacher_made_in_inference_mode(source, images, cached, by_hand) -> None:
    """Its tensors do not count who writes to them."""
    with torch.inference_mode():
        copied = copy.deepcopy(source)
    assert copied.fc.weight.is_inference()
    teacher = cached(copied)
    for factor in (1, 2):
        copied.fc.bias.data.mul_(factor)
        assert_equal(teacher.features(images, ["fc"])["fc"], by_hand(copied, images)["fc"])


def test_no_images(source, images, cached) -> None:
    assert cached(source).features(images[:0], ["layer2"])["layer2"].shape == (0, 6, 2, 3)


def test_other_layout_in_memory_is_the_same_image(source, images, cached, computed) -> None:
    teacher = cached(source)
    teacher.features(images, ["layer2"])
    same = images.clone(memory_format=torch.channels_last)
    assert computed(teacher, same) == 0
    assert computed(teacher, images.flip(3).flip(3)) == 0


def test_rare_taps_are_not_kept(source, images, cached, by_hand, tmp_path) -> None:
    teacher = cached(source)
    for _ in range(2):
        found = teacher.features(images, ["fc"], rarely=["layer1", "fc"])
        assert_equal(found["layer1"], by_hand(source, images)["layer1"])
    assert [path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir()] == ["fc"]


def test_outputs_may_be_changed_in_place(source, images, cached, by_hand) -> None:
    teacher = cached(source)
    for _ in range(3):
        found = teacher.features(images, ["layer2"])["layer2"]
        assert not found.requires_grad
        assert_equal(found, by_hand(source, images)["layer2"])
        found.zero_()


@pytest.mark.parametrize("how", COPIES)
def test_copies_have_the_settings_and_find_the_entries(source, images, cached, computed, by_hand, how) -> None:
    teacher = cached(source, dtype="float16")
    teacher.features(images, ["fc"])
    copied = COPIES[how](teacher)
    assert repr(copied.cache) == repr(teacher.cache)
    assert computed(copied, images, "fc") <= 1
    assert computed(copied, images, "fc") == 0
    torch.testing.assert_close(copied.features(images, ["fc"])["fc"], by_hand(source, images)["fc"], rtol=0, atol=1e-3)


def test_nothing_of_it_in_the_state(source, cached) -> None:
    teacher = cached(source)
    assert not [*teacher.state_dict(), *teacher.buffers(), *teacher.parameters()]


@pytest.mark.parametrize("names", ["ctd-ed", "ctd-cd"])
def test_training_is_that_without_cache(source, images, cached, names) -> None:
    losses = []
    for teacher in (xr.FrozenTeacher(source), cached(source)):
        torch.manual_seed(0)
        student = copy.deepcopy(source).train().requires_grad_(True)
        regularizer = xr.CrossTaskRegularizer(student, teacher, _terms(names, source))
        optimizer = torch.optim.SGD([*student.parameters(), *regularizer.parameters()], lr=0.1)
        losses.append([_step(student, regularizer, optimizer, images[step % 2 :: 2]) for step in range(6)])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 6


def _terms(names: str, source: torch.nn.Module) -> list[xr.Term]:
    if names == "ctd-ed":
        return [xr.Term(xr.CosineAlignmentLoss(), student="layer2", teacher="layer2", weight=1.0, name="ed")]
    connector = xr.retained_classifier(source.fc)
    return [
        xr.Term(xr.SoftmaxL2Loss(), student="layer2", teacher="fc", weight=1.0, name="cd", student_connector=connector)
    ]


def _step(
    student: torch.nn.Module,
    regularizer: xr.CrossTaskRegularizer,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
) -> float:
    task = student(images).square().mean()
    loss = task + sum(regularizer().values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_each_of_several_teachers_has_its_own(source, images, cached) -> None:
    other = copy.deepcopy(source)
    torch.nn.init.ones_(other.fc.weight)
    teachers = {"a": cached(source), "b": cached(other)}
    student = copy.deepcopy(source).requires_grad_(True)
    terms = [
        xr.Term(xr.CosineSmoothL1Loss(), student="fc", teacher=f"{name}.fc", weight=1.0, name=name) for name in teachers
    ]
    regularizer = xr.CrossTaskRegularizer(student, teachers, terms)
    values = []
    for _ in range(2):
        student(images)
        values.append({name: loss.item() for name, loss in regularizer().items()})
    assert values[0] == values[1]
    assert values[0]["a"] == pytest.approx(0, abs=1e-6)
    assert values[0]["b"] > 0.1
