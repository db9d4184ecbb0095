"""Terms on unlabelled images, in the user's own loop."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import CheckpointError, checkpoint

import xtask_reg as xr


@pytest.fixture
def pair(net, ed):
    """A student that differs from its teacher, and its regularizer."""
    source = net()
    student = copy.deepcopy(source)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [ed()])


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def gradients(module, loss):
    return torch.autograd.grad(loss, [*module.parameters()], retain_graph=True)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_value_by_hand(pair, images, norm):
    student, keep = pair
    student.layer1[1], keep.teacher.network.layer1[1] = norm(4), norm(4)
    others = torch.randn(3, 3, 12, 10)
    student(images)
    found = keep.on(others)["ed"]
    student.eval()
    with torch.no_grad():
        maps = [
            each.layer2(each.layer1(others).relu()).flatten(1).double().numpy()
            for each in (student, keep.teacher.network)
        ]
    own, source = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in maps)
    assert found.item() == pytest.approx(0.5 * (1 - (own * source).sum(1)).mean(), rel=1e-4)


def test_the_task_is_as_without_and_the_gradients_add_up(pair, images):
    """The statistics are those of the labelled batch only; the gradient is the sum of the two parts."""
    student, keep = pair
    student.layer2.eval()  # its dropout would draw
    others, plain = torch.randn(3, 3, 12, 10), copy.deepcopy(student)
    task = student(images).square().mean()
    (task + keep.on(others)["ed"]).backward()
    both = [parameter.grad.clone() for parameter in student.parameters()]
    own = plain(images).square().mean()
    assert torch.equal(task, own)
    for name, value in state(plain).items():
        assert torch.equal(student.state_dict()[name], value), name
    assert [module.training for module in student.modules()] == [module.training for module in plain.modules()]
    own.backward()
    student.zero_grad()
    keep.on(others)["ed"].backward()
    for together, parameter, alone in zip(both, student.parameters(), plain.parameters(), strict=True):
        of_the_term = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(together, alone.grad + of_the_term)
    assert student.layer1[0].weight.grad.abs().sum() > 0


def test_the_labelled_call_is_not_read(pair, images):
    student, keep = pair
    others = torch.randn(3, 3, 12, 10)
    alone = keep.on(others)["ed"]
    student.eval()(images)
    assert torch.equal(keep.on(others)["ed"], alone)
    with pytest.raises(xr.TapError, match="was not called since"):
        keep()


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_later_call_in_train_mode_leaves_the_gradient(pair, images, channels_last):
    """That call changes the statistics that the backward pass needs, and PyTorch does not notice."""
    student, keep = pair
    student.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    others = torch.randn(3, 3, 12, 10)
    keep.on(others)["ed"].backward()
    expected = student.layer1[1].weight.grad.clone()
    student.zero_grad()
    term, before = keep.on(others)["ed"], student.layer1[1].running_mean
    student(10 * images + 5)
    term.backward()
    assert torch.equal(student.layer1[1].weight.grad, expected)
    assert student.layer1[1].running_mean is before
    assert before.abs().max() > 0.1


@pytest.mark.parametrize("within_a_block", [False, True])
@pytest.mark.parametrize("path", ["layer2", "0.layer2", "0.0.layer2"], ids=["of a part", "of the same", "of all"])
def test_another_regularizer_reads_the_labelled_call(pair, ed, images, path, within_a_block):
    part, keep = pair
    part.layer2.eval()  # its dropout would draw
    student = nn.Sequential(part)
    everything = nn.Sequential(student)
    keep = xr.CrossTaskRegularizer(student, keep.teacher, [ed(student="0.layer2")])
    known = {"layer2": part, "0.layer2": student, "0.0.layer2": everything}[path]
    near = xr.CrossTaskRegularizer(known, keep.teacher, [ed(student=path)])
    everything(images)
    expected, others = near()["ed"], torch.randn(3, 3, 12, 10)
    with near.recording(images) if within_a_block else nullcontext():
        everything(images)
        on_others = keep.on(others)["ed"]
    assert torch.equal(near()["ed"], expected)
    assert on_others != expected
    with near.recording(images) if within_a_block else nullcontext():
        keep.on(others)
        everything(images)
    assert torch.equal(near()["ed"], expected)


def test_a_monitor_has_a_ratio_where_the_task_pulls_too(pair, images):
    """At features of images that the task does not see there is no ratio; at parameters there is one."""
    student, keep = pair
    source, weights = keep.teacher.network, {"ed": 0.5, "cosine": 0.3, "l2_sp": 0.1}
    terms = [
        xr.Term(xr.CosineAlignmentLoss(), student="layer2", teacher="layer2", weight=weights["ed"], name="ed"),
        xr.Term(xr.CosineSmoothL1Loss(), student="layer2", teacher="layer2", weight=weights["cosine"], name="cosine"),
        xr.Term(xr.L2SPPenalty(), student="", teacher="", weight=weights["l2_sp"], name="l2_sp"),
    ]
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms, xr.Monitor(["layer2"], every=1))
    for _ in range(2):
        student.zero_grad()
        task, terms = student(images).square().mean(), keep.on(torch.randn(3, 3, 12, 10))
        others = torch.cat([each.flatten() for each in gradients(student, task + terms["ed"] + terms["cosine"])])
        (task + sum(terms.values())).backward()
        report = keep.report
        assert np.isnan([report["ratio/ed"], report["ratio/cosine"]]).all()
        pull = torch.cat([(own - source.get_parameter(name)).flatten() for name, own in student.named_parameters()])
        assert report["ratio/l2_sp"] == pytest.approx((0.1 * pull.norm() / others.norm()).item(), rel=1e-3)
        assert {name: report[f"value/{name}"] * weight for name, weight in weights.items()} == pytest.approx(
            {name: value.item() for name, value in terms.items()}
        )
        assert -1 <= report["cosine/layer2"] < 1


def test_balanced_terms_are_refused(pair, images):
    """The task has no gradient where they would measure it."""
    student, keep = pair
    keep.set_weight("ed", xr.Balanced(0.1))
    student(images)
    with pytest.raises(ValueError, match=r"\['ed'\] are Balanced.*on images without labels"):
        keep.on(images)


def test_ended_terms_do_not_call_the_student(pair, images):
    student, keep = pair
    keep.set_weight("ed", 0.0)
    student(images)
    calls = []
    student.register_forward_hook(lambda module, args, output: calls.append(args[0]))
    assert keep.on(torch.randn(3, 3, 12, 10))["ed"] == 0
    assert calls == []


def test_terms_that_do_not_act_yet_need_no_call_of_the_student(pair):
    """For loops that call its parts one by one, or call it later."""
    student, keep = pair
    keep.set_weight("ed", xr.Warmup(0.5, until=0.5))
    for keep.progress in (0.0, 0.25):
        terms = keep.on(torch.randn(3, 3, 12, 10), call=lambda images: student.layer2(student.layer1(images).relu()))
        assert (terms["ed"] > 0) == (keep.progress > 0)


def test_a_student_that_works_in_place_leaves_the_images(net, ed):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, images):
            return self.net(images.mul_(2))

    student, others = InPlace(), torch.randn(3, 3, 12, 10)
    before = others.clone()
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(net()), [ed(student="net.layer2")])
    assert keep.on(others)["ed"] > 0
    assert torch.equal(others, before)


class Checkpointed(nn.Module):
    """A part of it is computed again in the backward pass."""

    def __init__(self, net, reentrant):
        super().__init__()
        self.net = net(norm=False)
        self.net.layer1[1] = nn.BatchNorm2d(4)
        self.reentrant = reentrant

    def forward(self, images):
        images = images.requires_grad_()
        return self.net.layer2(checkpoint(self.net.layer1, images, use_reentrant=self.reentrant).relu())


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_that_computes_again_in_train_mode_is_refused(net, ed, images, reentrant):
    student = Checkpointed(net, reentrant)
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(net(norm=False)), [ed(student="net.layer2")])
    if reentrant:
        with pytest.raises(RuntimeError, match="reentrant activation checkpointing.*with_cp=False"):
            keep.on(images)
    else:  # PyTorch's own
        with pytest.raises(CheckpointError):
            keep.on(images)["ed"].backward()


def test_checkpointing_is_refused_when_a_term_behind_it_begins(net, ed, images):
    """Not in the steps before, in which another term acts alone, or there are no gradients."""
    student, source = Checkpointed(net, True), xr.FrozenTeacher(net(norm=False))
    near = xr.Term(xr.L2SPPenalty(), student="net", teacher="", weight=0.1, name="near")
    keep = xr.CrossTaskRegularizer(student, source, [near, ed(student="net.layer2", weight=xr.Warmup(0.5))])
    keep.progress = 0.0
    assert keep.on(images)["near"] > 0
    keep.progress = 0.5
    with torch.no_grad():
        assert keep.on(images)["ed"] > 0
    with pytest.raises(RuntimeError, match="reentrant activation checkpointing"):
        keep.on(images)


def test_what_is_called_in_the_place_of_the_student(pair):
    """A part of it, or what ``torch.compile`` makes of it, which has no truth value."""
    student, keep = pair
    others = torch.randn(3, 3, 12, 10)
    expected = keep.on(others)["ed"]
    assert torch.equal(keep.on(others, call=torch.compile(student, backend="eager"))["ed"], expected)
    student.fc.register_forward_pre_hook(lambda *unused: pytest.fail("a layer behind the part is called"))
    assert torch.equal(
        keep.on(others, call=lambda images: student.layer2(student.layer1(images).relu()))["ed"], expected
    )


def test_one_module_for_several_processes(pair, images):
    student, keep = pair
    others = torch.randn(3, 3, 12, 10)
    student.eval()
    output, terms = xr.Regularized(student, keep)(images, unlabelled=others)
    assert torch.equal(output, student(images))
    assert torch.equal(terms["ed"], keep.on(others)["ed"])
    assert not torch.equal(terms["ed"], xr.Regularized(student, keep)(images)[1]["ed"])


def test_without_a_student(net, ed):
    keep = xr.CrossTaskRegularizer(None, xr.FrozenTeacher(net()), [ed()])
    with pytest.raises(RuntimeError, match="made without a student"):
        keep.on(torch.randn(2, 3, 9, 11))


def test_the_student_is_not_called_for_what_reads_no_images(net, images):
    source, student = net(), net()
    calls = []
    student.register_forward_hook(lambda module, args, output: calls.append(args[0]))
    assert xr.CrossTaskRegularizer(student, None, []).on(images) == {}
    assert calls == []
    penalty = xr.Term(xr.L2SPPenalty(), student="", teacher="", weight=0.1, name="l2_sp")
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [penalty])
    student(images)
    distance = sum((a - b).square().sum() for a, b in zip(student.parameters(), source.parameters(), strict=True))
    assert keep.on(torch.randn(3, 3, 12, 10))["l2_sp"].item() == pytest.approx(0.05 * distance.item(), rel=1e-5)
    assert len(calls) == 1
