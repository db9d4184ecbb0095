"""Tests that need a GPU: nothing waits for it, and its options change only precision."""

from __future__ import annotations

import copy

import pytest
import torch

import xtask_reg as xr

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
WAITS = ("BSSLoss",)
"""Losses whose decomposition waits for the GPU in each step."""
LOGITS = ("KDLoss", "LwFLoss", "SoftmaxL2Loss")
NAMES = [name for name in xr.__all__ if name.endswith(("Loss", "Penalty")) and name != "Penalty"]
OPTIONS = [
    {"dtype": torch.bfloat16},
    {"dtype": torch.float16, "channels_last": True},
    {"compile": True},
    {"compile": "reduce-overhead"},
    {"dtype": torch.bfloat16, "channels_last": True, "compile": "reduce-overhead"},
]


@pytest.fixture
def never_waiting():
    """Make every wait for the GPU an error."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def regularizer(student, source, name: str) -> xr.CrossTaskRegularizer:
    loss = getattr(xr, name)()
    taps = {"student": "layer2", "teacher": "layer2"}
    if name in LOGITS:
        taps |= {"teacher": "fc", "student_connector": xr.retained_classifier(source.fc)}
    return xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [xr.Term(loss, **taps, weight=0.1, name="term")])


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_does_not_wait_for_the_gpu(resnet, images, never_waiting, name, autocast) -> None:
    """A hidden ``.item()`` makes the processor wait for the GPU in each step, and then the GPU for the processor."""
    if name in WAITS:
        pytest.skip("eigenvalues are looked at by the processor")
    student, images = resnet().cuda().train(), images.cuda()
    source = copy.deepcopy(student)
    keep = regularizer(student, source, name).cuda()

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            task = student(images).float().square().mean()
            loss = sum(keep().values(), task)
        loss.backward()

    for _ in range(2):
        step()
    never_waiting()
    step()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_of_the_teacher(model, images, twin, options) -> None:
    """A faster teacher gives other targets: here those of float32, up to its precision."""
    given = [images, images.flip(3), 0.5 * images, images.flip(2)]
    source = twin(model.regularizer.teacher.network)
    wanted = [source.eval().double().features(each.double()) for each in given]
    teacher = xr.FrozenTeacher(copy.deepcopy(source).float().cuda(), **options)
    found = [teacher.features(each.cuda(), ["layer2"])["layer2"] for each in given]
    eps = torch.finfo(options.get("dtype", torch.float32)).eps if "dtype" in options else 1e-3  # TF32 convolutions
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == options.get("dtype", torch.float32)
        assert (one.cpu().double() - other).norm() < 8 * eps * other.norm()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_cache(resnet, images, tmp_path, dtype) -> None:
    """Cached outputs equal the computed ones, on the same device."""
    images = images.cuda()
    cache = xr.TeacherCache(tmp_path, images=len(images), versions=1)
    source = resnet().cuda()
    plain = xr.FrozenTeacher(copy.deepcopy(source), dtype=dtype).features(images, ["layer2", "fc"])
    teacher = xr.FrozenTeacher(source, dtype=dtype, cache=cache)
    for _ in range(2):
        found = teacher.features(images, ["layer2", "fc"])
        for path, output in plain.items():
            assert found[path].device == output.device
            torch.testing.assert_close(found[path], output, rtol=1e-2, atol=1e-3)
    called = []
    teacher.network.register_forward_hook(lambda *_: called.append(1))
    teacher.features(images, ["layer2", "fc"])
    assert not called
