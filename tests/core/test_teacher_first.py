"""In ``recording(images)`` the teacher runs before the student."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import xtask_reg as xr

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))


class Watched:
    """A student, its regularizer, and the order in which student and teacher were called."""

    def __init__(self, net: Callable[..., nn.Module], *terms: xr.Term, monitor: xr.Monitor | None = None) -> None:
        self.calls: list[str] = []
        self.student, source = net(2, norm=False), net(norm=False)
        self.student.register_forward_pre_hook(lambda module, arguments: self.calls.append("student"))
        source.layer1.register_forward_pre_hook(lambda module, arguments: self.calls.append("teacher"))
        self.keep = xr.CrossTaskRegularizer(self.student, xr.FrozenTeacher(source), list(terms), monitor)

    def call(self, images: Tensor) -> Tensor:
        """The student's output, as a step that can be read."""
        with self.keep.recording(images):
            return self.student(images)


def test_order(net, ed, images) -> None:
    watched = Watched(net, ed())
    watched.call(images)
    watched.keep()
    assert watched.calls == ["teacher", "student"]


@pytest.mark.parametrize("device", ["meta", CUDA])
def test_elsewhere_it_waits_for_the_student(net, ed, images, device) -> None:
    """On a GPU that is not slower: it computes the student's pass while the CPU launches the teacher's."""
    watched = Watched(net, ed())
    watched.student.to(device)
    watched.keep.to(device)
    watched.call(images.to(device))
    assert watched.calls == ["student"]


def test_the_same_values_as_with_the_teacher_second(plain, images, values) -> None:
    plain.student(images)
    second = {name: loss.item() for name, loss in plain.regularizer().items()}
    with plain.regularizer.recording(images):
        plain.student(images)
    assert second == values(plain.regularizer())


def test_without_gradients_the_teacher_waits_until_it_is_asked(net, ed, images) -> None:
    watched = Watched(net, ed())
    with torch.no_grad():
        watched.call(images)
        assert watched.calls == ["student"]
        watched.keep()
    assert watched.calls == ["student", "teacher"]


def test_inference_tensors_count_no_changes_and_the_teacher_waits(net, ed, images) -> None:
    watched = Watched(net, ed())
    watched.student.layer1.requires_grad_(False)
    with torch.inference_mode():
        others = images.clone()
    watched.call(others)
    watched.keep()
    assert watched.calls == ["student", "teacher"]


@pytest.mark.parametrize("weight", [xr.LinearDecay(0.1, until=0.5), xr.Balanced(xr.LinearDecay(0.1, until=0.5))])
def test_it_does_not_run_for_a_term_that_has_ended(net, ed, images, weight) -> None:
    watched = Watched(net, ed(weight=weight))
    watched.keep.progress = 0.75
    watched.call(images)
    watched.keep()
    assert watched.calls == ["student"]


def test_once_a_step_whatever_is_measured(net, ed, images) -> None:
    """Balanced weights begin with measured steps of weight 0, and the monitor reads another tap in some steps."""
    monitor = xr.Monitor(every=2, stages={"layer1": "layer1"})
    watched = Watched(net, ed(weight=xr.Balanced(0.1, every=3)), monitor=monitor)
    watched.calls.clear()  # those that looked at the monitored stages
    for step in range(1, 9):
        (watched.call(images).square().mean() + sum(watched.keep().values())).backward()
        assert watched.calls == ["teacher", "student"] * step


def test_images_that_are_named_later_count(net, ed, images, values) -> None:
    watched = Watched(net, ed())
    others = torch.zeros_like(images)
    watched.call(images)
    found = watched.keep(others)["ed"].item()
    watched.student(images)
    assert {"ed": found} == values(watched.keep(others))


def test_images_that_change_in_the_block_are_seen_as_the_student_sees_them(net, ed, images, values) -> None:
    watched = Watched(net, ed())
    watched.student(images + 1)
    expected = watched.keep()["ed"].item()
    with watched.keep.recording(images):
        watched.student(images.add_(1))
    assert {"ed": expected} == values(watched.keep())


def test_nothing_of_it_is_left(net, ed, images) -> None:
    watched = Watched(net, ed())
    with pytest.raises(OSError, match="broken"), watched.keep.recording(images):
        raise OSError("broken")
    assert watched.keep._ahead is None
    watched.call(images)
    assert copy.deepcopy(watched.keep)._ahead is None
    watched.keep()
    assert watched.keep._ahead is None
    watched.call(images)
    watched.keep.remove()
    assert watched.keep._ahead is None
