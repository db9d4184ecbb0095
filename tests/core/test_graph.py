"""Autograd around the taps: no graph is kept; in-place operations; activation checkpointing."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

import xtask_reg as xr


def test_nothing_is_kept_after_a_step(plain) -> None:
    kept = []
    plain.student.layer2.register_forward_hook(lambda module, args, output: kept.append(weakref.ref(output)))
    plain.regularizer.teacher.network.layer2.register_forward_hook(
        lambda m, a, output: kept.append(weakref.ref(output))
    )
    images = torch.randn(2, 3, 9, 11)
    kept.append(weakref.ref(images))
    output, losses = plain(images)
    del output, losses, images
    gc.collect()
    assert len(kept) == 3
    assert [reference() for reference in kept] == [None] * 3


class Checkpointed(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images):
        features = checkpoint(lambda x: self.net.layer2(self.net.layer1(x).relu()), images, use_reentrant=False)
        return self.net.fc(self.net.relu(features).mean(dim=(2, 3)))


@pytest.mark.parametrize("path", ["layer2", "layer2.0", "layer1"])
def test_tap_in_a_checkpointed_block(net, ed, images, path) -> None:
    plain, source = net(2, norm=False), net()
    gradients = []
    for student, prefix in ((plain, ""), (Checkpointed(plain), "net.")):
        reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [ed(student=prefix + path, teacher=path)])
        (student(images).square().sum() + reg()["ed"]).backward()
        gradients.append([parameter.grad for parameter in plain.parameters()])
        with pytest.raises(xr.TapError, match="did not fire"):  # the recomputation is no step
            reg()
        reg.remove()
        plain.zero_grad()
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
        assert one.any()


class Copying(nn.Module):
    """A network with a copy after each layer, as in many attention layers; the checkpointing policy may save it."""

    def __init__(self, saved: str | None) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
        self.saved = saved

    def layer_by_layer(self, features):
        for layer in self.layers:
            features = layer(features).clone().sin()
        return features

    def policy(self, context, operation, *args, **kwargs):
        return CheckpointPolicy.MUST_SAVE if self.saved in str(operation) else CheckpointPolicy.MUST_RECOMPUTE

    def forward(self, features):
        if self.saved is None:
            return self.layer_by_layer(features)
        contexts = partial(create_selective_checkpoint_contexts, self.policy)
        return checkpoint(self.layer_by_layer, features, use_reentrant=False, context_fn=contexts)


class Labelled(Tensor):
    """A subclass with which PyTorch computes as with the plain tensor."""


@pytest.mark.parametrize("kind", [Tensor, Labelled])
@pytest.mark.parametrize("saved", ["clone", "mm", "aten"])
def test_tap_in_a_selectively_checkpointed_block(ed, saved, kind) -> None:
    """Saved values are matched by order: a copy made only in the first run would shift all others by one."""
    student, source, features = Copying(None), Copying(None), torch.randn(2, 5, 4).as_subclass(kind)
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [ed(student="layers.0", teacher="layers.0")])
    gradients = []
    for student.saved in (None, saved):
        total = student(features).square().sum() + reg()["ed"]
        gradients.append(torch.autograd.grad(total, list(student.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("named", [True, False])
def test_student_that_changes_its_input(plain, images, expected, values, named) -> None:
    original = images.clone()
    layer1 = plain.student.layer1.forward
    plain.student.layer1.forward = lambda x: layer1(x.mul_(2).div_(2))
    plain.student(images)
    if named:
        assert expected(plain, original) == values(plain.regularizer(original))
    else:
        with pytest.raises(ValueError, match="changed it in place"):
            plain.regularizer()


def test_inference_mode_then_training(plain, images, expected, values) -> None:
    with torch.inference_mode():
        plain.student(images.clone())
        assert expected(plain, images) == values(plain.regularizer())
        plain.student(images)
    plain.student(images)
    losses = plain.regularizer()
    assert expected(plain, images) == values(losses)
    sum(losses.values()).backward()
