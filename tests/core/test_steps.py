"""Which calls belong to one step, and that nothing is left of an earlier one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xtask_reg as xr


def test_values_are_the_formula_s(plain, images, expected, values) -> None:
    reg = plain.regularizer
    plain.student(images)
    losses = reg()
    assert expected(plain, images) == values(losses)
    assert all(value.shape == () and value.requires_grad for value in losses.values())


def test_regularized_returns_output_and_losses(plain, images, expected, values) -> None:
    output, losses = plain(images)
    assert torch.equal(output, plain.student(images))
    assert expected(plain, images) == values(losses)


def test_gradient_is_that_of_the_formula(plain, images) -> None:
    student, source, reg = plain.student, plain.regularizer.teacher.network, plain.regularizer
    student(images)
    sum(reg().values()).backward()
    actual = {name: parameter.grad for name, parameter in plain.named_parameters()}
    plain.zero_grad()
    s, t = (each.layer2(each.layer1(images).relu()) for each in (student, source))
    p = (reg.terms["cd"].student_connector.fc(s.mean(dim=(2, 3))) / 2).softmax(1)
    q = (source.fc(t.relu().mean(dim=(2, 3))) / 2).softmax(1)
    cosine = nn.functional.cosine_similarity(s.flatten(1), t.flatten(1)).mean()
    (0.5 * (1 - cosine) + 2 * (p - q).square().sum(1).mean()).backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(actual[name], parameter.grad)


def test_without_a_call_raises(plain) -> None:
    with pytest.raises(xr.TapError, match="student tap 'layer2' did not fire.*was not called"):
        plain.regularizer()


def test_a_step_is_read_once(plain, images) -> None:
    plain.student(images)
    plain.regularizer()
    with pytest.raises(xr.TapError, match="was not called since its last call was read"):
        plain.regularizer()


def test_calls_of_a_part_of_the_student_do_not_count(plain, images, expected, values) -> None:
    plain.student(images)
    plain.student.layer2(torch.randn(2, 4, 5, 5))
    assert expected(plain, images) == values(plain.regularizer())
    plain.student.layer2(torch.randn(2, 4, 5, 5))
    with pytest.raises(xr.TapError, match="did not fire"):
        plain.regularizer()


@pytest.mark.parametrize("wrapped_first", [True, False])
@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="aot_eager")])
def test_wrapped_student(plain, images, expected, values, wrap, wrapped_first) -> None:
    student, teacher = plain.student, plain.regularizer.teacher
    plain.regularizer.remove()
    terms = list(plain.regularizer.terms.values())
    wrapped = wrap(student)
    plain.regularizer = xr.CrossTaskRegularizer(wrapped if wrapped_first else student, teacher, terms)
    for _ in range(2):
        wrapped(images)
        assert expected(plain, images) == values(plain.regularizer())
    with pytest.raises(xr.TapError):
        plain.regularizer()


def test_compiled_regularized(plain, images, expected, values) -> None:
    compiled = torch.compile(plain, backend="aot_eager")
    for _ in range(2):
        _, losses = compiled(images)
        assert expected(plain, images) == values(losses)


def test_compiled_teacher(plain, ed, expected, values) -> None:
    compiled = torch.compile(plain.regularizer.teacher.network, backend="aot_eager")
    reg = xr.CrossTaskRegularizer(plain.student, xr.FrozenTeacher(compiled), [ed()])
    for _ in range(3):
        images = torch.randn(2, 3, 9, 11)
        plain.student(images)
        assert {"ed": expected(plain, images)["ed"]} == values(reg())


def only(container: nn.Module) -> nn.Module:
    (convolution,) = (module for module in container.modules() if isinstance(module, nn.Conv2d))
    return convolution


@pytest.mark.parametrize("kind", [tuple, list, dict])
@pytest.mark.parametrize(
    ("within", "inner"),
    [
        (lambda convolution: convolution, "stage"),
        (lambda convolution: nn.ModuleList([convolution]), "stage.0"),  # itself never called
        (lambda convolution: nn.ModuleDict({"heads": nn.ModuleList([convolution])}), "stage.heads.0"),
    ],
    ids=["module", "list", "dict"],
)
def test_output_that_is_no_tensor(net, ed, images, kind, within, inner) -> None:
    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = within(nn.Conv2d(3, 4, 1))

        def forward(self, x):
            return dict(out=only(self)(x)) if kind is dict else kind([only(self)(x)])

    student = nn.Sequential(Stages())
    reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(net()), [ed(student="0", teacher="layer1")])
    student(images)
    expected = f"student tap '0' gave a {kind.__name__}.*one tensor; perhaps tap '0.{inner}' instead"
    with pytest.raises(xr.TapError, match=expected):
        reg()


def test_images_by_keyword(plain, images, expected, values) -> None:
    plain.student(images=images)
    assert expected(plain, images) == values(plain.regularizer())
    assert expected(plain, images) == values(plain(images=images)[1])


@pytest.fixture
def listening(plain):
    """A Regularized whose student takes a list of samples, as detectors do."""
    forward = plain.student.forward
    plain.student.forward = lambda samples: forward(torch.stack(samples["inputs"]))
    return plain


def test_student_that_is_not_called_with_a_tensor(listening, images, expected, values) -> None:
    reg = listening.regularizer
    listening.student({"inputs": list(images)})
    with pytest.raises(ValueError, match="not called with a tensor.*give the images"):
        reg()
    listening.student({"inputs": list(images)})
    assert expected(listening, images) == values(reg(images))


def test_images_may_be_named(plain, images, expected, values) -> None:
    plain.student(images)
    assert expected(plain, images) == values(plain.regularizer(images))


def test_validation_between_student_and_regularizer_is_told(plain, images) -> None:
    plain.student(images)
    with torch.no_grad():
        plain.student(images)
    with pytest.raises(xr.TapError, match="last call of the student ran without gradients"):
        plain.regularizer()
    with torch.no_grad():
        plain.student(images)
        assert not plain.regularizer()["ed"].requires_grad


def test_student_that_returns_nothing(plain, images, expected, values) -> None:
    forward = plain.student.forward
    plain.student.forward = lambda pictures: setattr(plain.student, "output", forward(pictures))
    assert plain.student(images) is None
    assert expected(plain, images) == values(plain.regularizer())


def test_any_tensor_of_the_call_may_be_the_images(plain, images, expected, values) -> None:
    forward = plain.student.forward
    plain.student.forward = lambda age, picture: forward(picture) + age.mean()
    age = torch.ones(2, 1)
    for call in (lambda: plain.student(age, images), lambda: plain.student(age, picture=images)):
        call()
        assert expected(plain, images) == values(plain.regularizer(images))
        call()
        with pytest.raises(ValueError, match=r"\(3, 3, 9, 11\).*\(2, 1\) on cpu, \(2, 3, 9, 11\) on cpu"):
            plain.regularizer(torch.zeros(3, 3, 9, 11))


@pytest.mark.parametrize(
    "other", [torch.zeros(3, 3, 9, 11), torch.zeros(2, 3, 11, 9), torch.zeros(2, 3, 9, 11, device="meta")]
)
def test_other_images_than_the_student_s_raise(plain, images, other) -> None:
    plain.student(images)
    with pytest.raises(ValueError, match=r"\(2, 3, 9, 11\) on cpu") as error:
        plain.regularizer(other)
    assert f"{tuple(other.shape)} on {other.device}" in str(error.value)


@pytest.mark.parametrize("name_them_later", [True, False])
def test_recording(plain, images, expected, values, name_them_later) -> None:
    student, reg = plain.student, plain.regularizer
    with reg.recording(None if name_them_later else images):
        student.layer2(student.layer1(images).relu())
    student.layer2(torch.zeros(1, 4, 5, 5))
    assert expected(plain, images) == values(reg(images) if name_them_later else reg())
    with pytest.raises(xr.TapError):
        reg(images)


@pytest.mark.parametrize("compiled", [False, True])
def test_two_calls_in_a_recording_are_no_step_of_the_last(plain, images, expected, compiled) -> None:
    """The calls are two views, as in siamese or semi-supervised training."""
    torch.compiler.reset()
    reg, both = plain.regularizer, torch.cat([images, images.flip(3)])
    student = torch.compile(plain.student, backend="eager") if compiled else plain.student
    for _ in range(2):
        with reg.recording(both):
            student(images)
            student(images.flip(3))
        with pytest.raises(xr.TapError, match="more than once within one recording.*called several times.*one batch"):
            reg()
        with reg.recording(both):
            student(both)
        joined = {name: loss.item() for name, loss in reg().items()}
        assert expected(plain, both) == pytest.approx(joined, rel=1e-5)
        each = []
        for view in (images, images.flip(3)):
            student(view)
            each.append(reg())
        assert {name: (each[0][name] + each[1][name]).item() / 2 for name in joined} == pytest.approx(joined, rel=1e-5)


def test_a_call_in_a_recording_says_what_the_images_are(listening, images, expected, values) -> None:
    student, reg = listening.student, listening.regularizer
    with reg.recording(images):
        student({"inputs": list(images)})
    assert expected(listening, images) == values(reg())


def test_recording_that_raised_is_no_step(plain, images) -> None:
    def fail(*unused) -> None:
        raise OSError("broken")

    student = plain.student
    student.relu.register_forward_hook(fail)
    with pytest.raises(OSError, match="broken"), plain.regularizer.recording(images):
        student.relu(student.layer2(student.layer1(images)))
    with pytest.raises(xr.TapError, match="did not fire"):
        plain.regularizer(images)


def test_removed_taps_leave_nothing_behind(net, ed, images) -> None:
    student = net()
    handles = [dict(each._forward_hooks) for each in student.modules()]
    reg = xr.CrossTaskRegularizer(
        student, xr.FrozenTeacher(net()), [ed(), ed(student="layer1", teacher="layer1", name="b")]
    )
    assert student.layer2._forward_hooks
    reg.remove()
    reg.remove()
    assert [dict(each._forward_hooks) for each in student.modules()] == handles
    assert not student._forward_pre_hooks
    student(images)
    with pytest.raises(xr.TapError, match="did not fire"):
        reg()
