"""Student, teacher, images and conversion on different devices or in different precisions."""

from __future__ import annotations

import pytest
import torch

import xtask_reg as xr

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))
OTHERS = ["meta", CUDA]


@pytest.mark.parametrize("device", OTHERS)
def test_teacher_on_another_device(model, images, device) -> None:
    """The teacher stays on another device than the images: here an error that says so, or it moves with its owner."""
    student = model.student.to(device)
    student(images.to(device))
    with pytest.raises(RuntimeError, match=rf"teacher is on cpu, the images are on {device}.*\.to\(device\)"):
        model.regularizer()
    model.to(device)
    network = model.regularizer.teacher.network
    tensors = [*model.parameters(), *model.buffers(), *network.parameters(), *network.buffers()]
    assert {tensor.device.type for tensor in tensors} == {device}
    if device != "meta":
        assert {loss.device.type for loss in model(images.to(device))[1].values()} == {device}


@pytest.mark.parametrize("device", OTHERS)
@pytest.mark.parametrize("when", ["built with", "later"])
def test_adapter_on_another_device(resnet, images, device, when) -> None:
    """The conversion of the images stays on another device than the teacher: here it follows it."""
    adapter = xr.InputAdapter(xr.InputConvention(), xr.InputConvention(channels="bgr", value_range=255))
    teacher = xr.FrozenTeacher(resnet().to(device), adapter if when == "built with" else None)
    if when == "later":
        teacher.use_adapter(adapter)
    assert {buffer.device.type for buffer in teacher.adapter.buffers()} == {device}
    if device != "meta":
        assert teacher(images.to(device)).device.type == device


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_dtype(model, images, expected, dtype, side, device) -> None:
    """Student and teacher differ in dtype: here each gets the images in its own, and the loss is float32 or better."""
    model, images = model.to(device).eval(), images.to(device)
    wanted = expected(model, images).expected
    if side == "student":
        model.student.to(dtype)
        images = images.to(dtype)
    else:
        model.regularizer.teacher.to(dtype)
    _, losses = model(images)
    sum(losses.values()).backward()
    assert all(torch.finfo(loss.dtype).bits >= 32 for loss in losses.values())
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(wanted, rel=0.1, abs=5e-3)
