"""Terms compare matching calls of student and teacher."""

from __future__ import annotations

import pytest
import torch

import xtask_reg as xr


@pytest.mark.parametrize("parts", [2, 4])
def test_gradient_accumulation(model, images, expected_gradients, total, parts) -> None:
    """Accumulated gradients use a stale tap: here they are those of the joined batch."""
    model.student.eval()  # batch statistics would make the parts differ from the whole
    wanted = expected_gradients(model, images)
    for part in images.chunk(parts):
        (total(*model(part)) / parts).backward()
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("each", [False, True], ids=["read once", "read after each"])
def test_two_forwards_before_one_loss(model, images, expected, numbers, seeded, each) -> None:
    """Different calls of student and teacher are paired: here the last call counts, or each call that is read."""
    reg, other = model.regularizer, torch.randn(3, 3, 8, 8)
    seeded(model.student, other)
    first = reg() if each else {}
    seeded(model.student, images)
    second = reg()
    assert numbers(second) == expected(model, images)
    if each:
        assert numbers(first) == expected(model, other)
    with pytest.raises(xr.TapError, match="not called since its last call was read"):
        reg()
    sum((first | second).values()).backward()


@pytest.fixture
def pair(model, resnet, terms) -> list[xr.Regularized]:
    """Two students with one teacher, each with a regularizer of its own."""
    student, teacher = resnet(2), model.regularizer.teacher
    other = xr.Regularized(student, xr.CrossTaskRegularizer(student, teacher, terms(teacher.network))).train()
    return [model, other]


ORDERS = {"in turn": "s0 r0 s1 r1", "interleaved": "s0 s1 r0 r1", "crossed": "s0 s1 r1 r0", "again": "s0 s1 s0 r1 r0"}


@pytest.mark.parametrize("order", ORDERS)
def test_several_students_in_one_process(pair, expected, numbers, seeded, order) -> None:
    """Several students and regularizers read each other's taps, whatever the order of their calls."""
    batches = [torch.randn(2, 3, 8, 8), torch.randn(3, 3, 16, 8)]
    for action, which in (tuple(each) for each in ORDERS[order].split()):
        model, images = pair[int(which)], batches[int(which)]
        if action == "s":
            seeded(model.student, images)
        else:
            assert numbers(model.regularizer()) == expected(model, images)


def test_students_that_share_an_encoder(model, images, terms, expected, numbers, seeded, resnet) -> None:
    """A call of one student fires the taps of another that has the same layers."""
    other = resnet(3)
    for name in ("conv1", "bn1", "layer1", "layer2"):
        setattr(other, name, getattr(model.student, name))
    teacher = model.regularizer.teacher
    second = xr.Regularized(other, xr.CrossTaskRegularizer(other, teacher, terms(teacher.network)))
    seeded(model.student, images)
    seeded(other, images[:2])
    assert numbers(model.regularizer()) == expected(model, images)
    assert numbers(second.regularizer()) == expected(second, images[:2])


def test_two_regularizers_at_one_student(model, images, terms, expected, numbers, seeded, resnet) -> None:
    """Of two regularizers on one module of one student, one empties the other's tap."""
    source = resnet(7)
    second = xr.CrossTaskRegularizer(model.student, xr.FrozenTeacher(source), terms(source))
    seeded(model.student, images)
    assert numbers(second()) == expected(xr.Regularized(model.student, second), images)
    assert numbers(model.regularizer()) == expected(model, images)


def test_shared_activation(model, images) -> None:
    """A module that is used twice in a forward, as a shared ReLU, gives its first or last output: here an error."""
    for path, teacher in (("relu", "layer2"), ("layer2", "relu")):
        term = xr.Term(xr.CosineAlignmentLoss(), student=path, teacher=teacher, weight=1.0, name="ed")
        reg = xr.CrossTaskRegularizer(model.student, model.regularizer.teacher, [term])
        model.student(images)
        with pytest.raises(
            xr.TapError, match="tap 'relu' fired more than once within one call.*a module that runs once"
        ):
            reg()
        reg.remove()


def test_replicas_of_data_parallel(model, images) -> None:
    """nn.DataParallel calls the student once for each device: a part of the batch would be taken for all of it."""
    replica = model.student._replicate_for_data_parallel()  # what it makes for each device
    with pytest.raises(RuntimeError, match="DataParallel.*DistributedDataParallel"):
        replica(images)


AUGMENTATIONS = {
    "flip": lambda images: images.flip(-1),
    "crop": lambda images: images[:, :, 2:10, 1:9],
    "in the batch": lambda images: images.roll(1, 0),
}


@pytest.mark.parametrize("how", AUGMENTATIONS)
def test_augmentation_of_the_student_s_input_only(model, images, expected, numbers, seeded, how) -> None:
    """The student's images are flipped or cropped, the teacher's are not: here it gets the student's pixels."""
    seen = []
    model.regularizer.teacher.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    augmented = AUGMENTATIONS[how](images)
    seeded(model.student, augmented)
    assert numbers(model.regularizer()) == expected(model, augmented) != expected(model, images)
    assert torch.equal(seen[0], augmented)
