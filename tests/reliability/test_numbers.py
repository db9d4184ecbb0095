"""Half precision, odd batches, extreme values."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import xtask_reg as xr
from xtask_reg.losses import cosine_alignment_loss

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))
each_device = pytest.mark.parametrize("device", ["cpu", CUDA])
OVERS = ("flatten", "location", "pooled")


def norm_of(tensors: list[torch.Tensor]) -> float:
    return sum(tensor.double().square().sum().item() for tensor in tensors) ** 0.5


@each_device
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision(model, images, expected_gradients, total, dtype, device) -> None:
    """Under autocast the losses come out in half precision: here float32 and finite, with the float32 gradients."""
    model.student.dropout.eval()  # other random numbers are drawn in other precisions
    model, images = model.to(device), images.to(device)
    wanted = expected_gradients(model, images)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    before = copy.deepcopy(model.state_dict())
    with torch.autocast(device, dtype):
        output, losses = model(images)
    assert output.dtype == dtype
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    scaler.scale(total(output.float(), losses)).backward()
    scaler.unscale_(optimizer)
    found = [parameter.grad for parameter in model.parameters()]
    difference = norm_of([one - other for one, other in zip(found, wanted, strict=True)])
    assert difference < 25 * torch.finfo(dtype).eps * norm_of(wanted)
    scaler.step(optimizer)
    scaler.update()
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert not all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@each_device
def test_scaled_gradients_that_overflow(model, images, expected, numbers, total, device) -> None:
    """A step that GradScaler skips, since its gradients overflow, spoils the next one."""
    model.student.dropout.eval()
    model, images = model.to(device), images.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**60)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    taken = []
    while not taken or not taken[-1]:
        with torch.autocast(device, torch.float16):
            output, losses = model(images)
        assert numbers(losses) == pytest.approx(expected(model, images).expected, rel=0.05, abs=1e-3)
        optimizer.zero_grad()
        scaler.scale(total(output.float(), losses)).backward()
        scaler.step(optimizer)
        scale = scaler.get_scale()
        scaler.update()
        taken.append(scaler.get_scale() == scale)
        changed = [not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
        assert any(changed) == taken[-1]
    assert len(taken) > 3


@pytest.mark.parametrize("size", [3, 2, 1])
def test_last_batch_smaller(model, images, expected, expected_gradients, numbers, seeded, total, step, size) -> None:
    """The last batch is smaller, or one image: here the terms keep their meaning, and nothing is NaN."""
    step(model, images)
    last = images[:size]
    wanted, gradients = expected(model, last), expected_gradients(model, last)
    output, losses = seeded(model, last)
    assert numbers(losses) == wanted
    total(output, losses).backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad.isfinite().all()
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["ed", "cd"])
def test_batch_without_images(model, images, step, name) -> None:
    """The mean over no images is NaN, and so is every weight after that step: here an error that names the term."""
    model.regularizer.set_weight("cd" if name == "ed" else "ed", 0)
    model.student.eval()  # in training mode torch's own batch norm refuses such a batch
    with pytest.raises(ValueError, match="the batch has no images") as error:
        model(images[:0])
    assert f"in term '{name}'" in error.value.__notes__[0]
    step(model, images)


@pytest.mark.parametrize("magnitude", [1e3, 1e15, 1e20, 1e30])
@pytest.mark.parametrize("which", ["student", "teacher", "both"])
@pytest.mark.parametrize("over", OVERS)
def test_cosine_of_huge_features(over, which, magnitude) -> None:
    """The squares of features near 1e20 overflow float32 and give NaN: a cosine does not depend on their size."""
    rng = np.random.default_rng(1)
    student, teacher = rng.standard_normal((2, 3, 6, 4, 5))
    vectors = {"flatten": (3, -1, 1), "location": (3, 6, -1), "pooled": (3, 6, -1)}[over]
    s, t = (each.reshape(vectors) for each in (student, teacher))
    if over == "pooled":
        s, t = (each.mean(axis=2, keepdims=True) for each in (s, t))
    lengths = np.linalg.norm(s, axis=1), np.linalg.norm(t, axis=1)
    cosine = (s * t).sum(axis=1) / lengths[0] / lengths[1]
    slope = (t / lengths[1][:, None] - cosine[:, None] * s / lengths[0][:, None]) / lengths[0][:, None]
    slope = -slope / cosine.size / (20 if over == "pooled" else 1)

    factor_s, factor_t = (magnitude if which in (side, "both") else 1.0 for side in ("student", "teacher"))
    given = torch.tensor(factor_s * student, dtype=torch.float32, requires_grad=True)
    value = cosine_alignment_loss(given, torch.tensor(factor_t * teacher, dtype=torch.float32), over)
    value.backward()
    assert value.item() == pytest.approx(1 - cosine.mean(), rel=1e-5)
    wanted = np.broadcast_to(slope, (3, 6, 20)) if over == "pooled" else slope
    found = factor_s * given.grad.double().numpy().reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)


EXTREMES = {
    "black images": lambda images: torch.zeros_like(images),
    "one colour": lambda images: torch.full_like(images, 0.5),
    "huge": lambda images: 1e15 * images,
    "tiny": lambda images: 1e-30 * images,
    "the same image": lambda images: images[:1].repeat(4, 1, 1, 1),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("what", EXTREMES)
def test_extreme_images(model, images, what, mode) -> None:
    """Zero vectors, identical inputs or huge logits give NaN: here values and gradients are finite."""
    model.train(mode == "train")
    losses = model(EXTREMES[what](images))[1]
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize("scale", [0.0, 1e4, -1e4])
def test_extreme_logits(model, images, scale) -> None:
    """Logits of 1e4, or all equal, overflow the softmax: here values and gradients are finite."""
    for fc in (model.regularizer.teacher.network.fc, model.regularizer.terms["cd"].student_connector.fc):
        fc.weight.data.mul_(scale)
        fc.bias.data.mul_(scale)
    _, losses = model(images)
    sum(losses.values()).backward()
    assert 0 <= losses["cd"].item() <= 6
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_student_that_is_still_the_source(resnet, images) -> None:
    """Student and source are equal at first, where a distance has no gradient: here loss and gradient are 0."""
    source = resnet().eval()
    student = copy.deepcopy(source)
    terms = [
        xr.Term(xr.CosineAlignmentLoss(), student="layer2", teacher="layer2", weight=1.0, name="ed"),
        xr.Term(xr.SoftmaxL2Loss(), student="fc", teacher="fc", weight=1.0, name="cd"),
    ]
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms)
    student(images)
    losses = reg()
    sum(losses.values()).backward()
    assert [loss.item() for loss in losses.values()] == pytest.approx([0, 0], abs=1e-6)
    assert all(parameter.grad.abs().max() < 1e-5 for parameter in student.parameters())
