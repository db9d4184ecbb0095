"""What happens between two steps of a training leaves no trace, with balanced weights, schedules and a monitor."""

from __future__ import annotations

import contextlib
import copy
import io

import pytest
import torch
from torch import Tensor

import xtask_reg as xr

STEPS = 12


def noise(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 16, 16)))


def validate(model: xr.Regularized) -> None:
    model.eval()
    with torch.no_grad():
        model.student(noise())
        model(noise())
    model.train()


def call_without_reading(model: xr.Regularized) -> None:
    model.student(noise())


def call_a_part(model: xr.Regularized) -> None:
    model.student.layer2(noise(2, 6, 8, 8))


def fail(model: xr.Regularized) -> None:
    with pytest.raises(RuntimeError):
        model.student(noise(2, 5, 16, 16))


def fail_while_recording(model: xr.Regularized) -> None:
    for images in (None, noise()):
        with contextlib.suppress(KeyboardInterrupt), model.regularizer.recording(images):
            model.student(noise() if images is None else images)
            raise KeyboardInterrupt


def train_mode_of_the_teacher(model: xr.Regularized) -> None:
    model.regularizer.teacher.train()


def look(model: xr.Regularized) -> None:
    repr(model)
    copy.copy(model.regularizer.report).clear()


def load_own_state(model: xr.Regularized) -> None:
    model.load_state_dict(copy.deepcopy(model.state_dict()))


def saliency(model: xr.Regularized) -> None:
    images = noise().requires_grad_()
    torch.autograd.grad(model.student(images).sum(), images)


def another_regularizer(model: xr.Regularized) -> None:
    term = xr.Term(xr.CosineAlignmentLoss(), name="other", weight=xr.Balanced(0.2), student="layer2", teacher="layer2")
    other = xr.CrossTaskRegularizer(model.student, model.regularizer.teacher, [term])
    model.student(noise())
    other()
    other.remove()


def go_on_with_a_copy(model: xr.Regularized) -> xr.Regularized:
    return copy.deepcopy(model)


def go_on_with_a_file(model: xr.Regularized) -> xr.Regularized:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


ACTS = (
    *(validate, call_without_reading, call_a_part, fail, fail_while_recording, train_mode_of_the_teacher, look),
    *(load_own_state, saliency, another_regularizer),
)
COPIES = go_on_with_a_copy, go_on_with_a_file
"""Between optimizer steps only: a file has no gradients."""


@pytest.fixture
def build(resnet):
    """Makes the same model each time: terms at two taps and over parameters, with all kinds of weights."""

    def build() -> xr.Regularized:
        torch.manual_seed(1)
        student, source = resnet(2), resnet()
        cosine, connector = xr.CosineAlignmentLoss, xr.retained_classifier(source.fc)
        decayed = xr.Balanced(xr.LinearDecay(0.5, until=0.7), every=2)
        at_2, at_1 = ({"student": tap, "teacher": tap} for tap in ("layer2", "layer1"))
        terms = [
            xr.Term(cosine(), name="balanced", weight=xr.Balanced(0.3, every=3), **at_2),
            xr.Term(cosine(), name="decayed", weight=xr.CosineDecay(0.5, until=0.5), **at_1),
            xr.Term(cosine("location"), name="both", weight=decayed, **at_1),
            xr.Term(xr.L2SPPenalty(), name="l2sp", weight=0.1, **at_1),
            xr.Term(xr.SoftmaxL2Loss(), name="cd", weight=3.0, **at_2 | {"teacher": "fc"}, student_connector=connector),
        ]
        monitor = xr.Monitor(["layer1", "layer2"], every=4)
        return xr.Regularized(student, xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), terms, monitor))

    return build


def trained(model: xr.Regularized, act=None):
    """What is said in each step, and the parameters at the end; every third step is made of two batches."""
    said = []
    for number in range(STEPS):
        for batch in range(1 + (number % 3 == 2)):
            model.regularizer.progress = number / STEPS
            if act in ACTS or (act in COPIES and batch == 0):
                model = act(model) or model
            torch.manual_seed(100 * number + batch)
            images, target = noise(4 - batch, 3, 16, 16), noise(4 - batch, 2)
            with contextlib.nullcontext() if number % 2 else model.regularizer.recording(images):
                output = model.student(images)
            losses = model.regularizer()
            ((output - target).square().mean() + sum(losses.values())).backward()
            said.append({name: value.item() for name, value in losses.items()} | model.regularizer.report)
            said[-1]["was measured"] = model.regularizer.was_measured
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.02 * parameter.grad
                    parameter.grad = None
    return said, dict(model.named_parameters())


@pytest.mark.parametrize("act", [*ACTS, *COPIES], ids=lambda act: act.__name__)
def test_it_leaves_no_trace(build, act) -> None:
    (said, plain), (again, other) = trained(build()), trained(build(), act)
    assert {round(step["weight/balanced"], 6) for step in said} > {0.0}
    assert said[0]["weight/decayed"] == 0.5
    assert said[-1]["weight/decayed"] == said[-1]["weight/both"] == 0
    for step, same in zip(said, again, strict=True):
        assert same == pytest.approx(step, rel=1e-4, abs=1e-6, nan_ok=True)
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-6)
