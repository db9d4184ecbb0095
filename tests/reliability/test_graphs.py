"""What changes the graph around the taps: activation checkpointing, torch.compile, in-place operations."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import xtask_reg as xr


def assert_gradients(model: nn.Module, wanted: list[torch.Tensor], **tolerance: float) -> None:
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, **(tolerance or {"rtol": 1e-4, "atol": 1e-6}))


def checkpointed(student: nn.Module, reentrant: bool) -> None:
    """Make the network drop the activations from ``layer2`` on and compute them again in the backward pass."""

    def forward(images: torch.Tensor) -> torch.Tensor:
        features = student.dropout(student.layer1(student.relu(student.bn1(student.conv1(images)))))
        return checkpoint(tail, features, use_reentrant=reentrant)

    def tail(features: torch.Tensor) -> torch.Tensor:
        return student.fc(student.relu(student.layer2(features)).mean(dim=(2, 3)))

    student.forward = forward


def test_checkpointed_layer(model, images, expected, expected_gradients, numbers, seeded, total) -> None:
    """Checkpointing runs a tapped layer twice, and the second run is taken for a step: here the first counts, once."""
    wanted, gradients = expected(model, images), expected_gradients(model, images)
    checkpointed(model.student, reentrant=False)
    runs = []
    model.student.layer2.register_forward_hook(lambda *unused: runs.append(1))
    output, losses = seeded(model, images)
    assert numbers(losses) == wanted
    total(output, losses).backward()
    assert len(runs) == 2
    assert_gradients(model, gradients)
    with pytest.raises(xr.TapError, match="did not fire"):
        model.regularizer()


def test_reentrant_checkpoint(model, images) -> None:
    """A tap within a reentrant checkpoint carries no gradient, so that its term does nothing: here it is an error."""
    checkpointed(model.student, reentrant=True)
    model.student(images)
    with pytest.raises(xr.TapError, match="'layer2' ran without gradients.*use_reentrant=False"):
        model.regularizer()


def test_container_that_is_never_called() -> None:
    """timm's ResNet calls the blocks of layer4 directly when checkpointing: a tap there is silent; the error helps."""
    timm = pytest.importorskip("timm")
    student, source = (timm.create_model("resnet18", num_classes=count).eval() for count in (2, 5))
    images, losses = torch.randn(2, 3, 32, 32), []
    for checkpointing, path in ((False, "layer4"), (True, "layer4"), (True, "layer4.1")):
        student.set_grad_checkpointing(checkpointing)
        term = xr.Term(xr.CosineAlignmentLoss(), student=path, teacher="layer4", weight=1.0, name="ed")
        reg = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])
        student(images)
        if checkpointing and path == "layer4":
            with pytest.raises(
                xr.TapError, match="'layer4' did not fire.*call the children of a container.*tap 'layer4.1' instead"
            ):
                reg()
        else:
            losses.append(reg()["ed"])
            losses[-1].backward()
        reg.remove()
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("path", ["bn1", "layer1.0.bn2", "layer2"])
def test_inplace_operation_behind_the_tap(model, images, twin, seeded, path) -> None:
    """An in-place ReLU or sum after a tapped layer overwrites the tap: here it keeps the values from before."""
    term = xr.Term(xr.CosineAlignmentLoss(), student=path, teacher=path, weight=1.0, name="ed")
    reg = xr.CrossTaskRegularizer(model.student, model.regularizer.teacher, [term])
    values = {}
    for name, network in {"student": model.student, "teacher": model.regularizer.teacher.network}.items():
        plain = twin(network)  # in-place operations work on a copy of the tap's output
        plain.get_submodule(path).register_forward_hook(
            lambda module, args, output, name=name: values.update({name: output}) or output.clone()
        )
        seeded(plain, images)
    assert all((value < 0).any() for value in values.values())
    seeded(model.student, images)
    cosine = nn.functional.cosine_similarity(values["student"].flatten(1), values["teacher"].flatten(1)).mean()
    loss = reg()["ed"]
    torch.testing.assert_close(loss, 1 - cosine)
    loss.backward()


def compiled_graphs() -> tuple[list, object]:
    """A backend for torch.compile that runs graphs as they are, and the list of what it was given."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> object:
        graphs.append(graph)
        return graph.forward

    return graphs, backend


@pytest.fixture
def _fresh_compiler() -> None:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


ORDERS = ["before attaching", "after attaching", "ran before attaching"]
BACKENDS = [*[("aot_eager", when) for when in ORDERS], pytest.param("inductor", ORDERS[0], marks=pytest.mark.slow)]


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize(("backend", "when"), BACKENDS)
def test_compiled_student(model, images, terms, expected, expected_gradients, numbers, total, backend, when) -> None:
    """torch.compile drops the hooks, or changes the numbers, depending on when the taps are attached."""
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("inductor needs a C++ compiler")
    student, teacher = model.student, model.regularizer.teacher
    student.dropout.eval()  # a compiler draws other random numbers
    if when == "after attaching":
        compiled = torch.compile(student, backend=backend)
    else:
        model.regularizer.remove()
        compiled = torch.compile(student, backend=backend)
        if when == "ran before attaching":
            compiled(images)
        model.regularizer = xr.CrossTaskRegularizer(compiled, teacher, terms(teacher.network))
    if when == "ran before attaching":
        compiled(images)
        with pytest.raises(xr.TapError, match=r"torch.compiler.reset\(\)"):
            model.regularizer()
        torch.compiler.reset()
    wanted, gradients = expected(model, images), expected_gradients(model, images)
    output = compiled(images)
    losses = model.regularizer()
    assert numbers(losses) == wanted
    total(output, losses).backward()
    assert_gradients(model, gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("_fresh_compiler")
def test_recompiles_are_bounded(model, expected, numbers) -> None:
    """Each step recompiles the student, since the taps hold other tensors: here only a second batch size does, once."""
    graphs, backend = compiled_graphs()
    model.student.dropout.eval()
    compiled = torch.compile(model.student, backend=backend)
    counts = []
    for count, size in enumerate([4, 4, 3, 5, 2, 6, 4, 7, 8, 3]):
        if count in (5, 7):
            model.regularizer.set_weight("ed", 0 if count == 5 else 0.5)
        images = torch.randn(size, 3, 16, 12)
        compiled(images)
        losses = numbers(model.regularizer())
        if count not in (5, 6):
            assert losses == expected(model, images)
        counts.append(len(graphs))
    first = counts[0]
    assert counts[1] == first  # the same size again
    assert set(counts[2:]) == {2 * first}  # once more, for any size


@pytest.mark.usefixtures("_fresh_compiler")
def test_validation_compiled_between_steps(model, images, expected, numbers) -> None:
    """A compiled student keeps the taps of a validation."""
    model.student.dropout.eval()
    compiled = torch.compile(model.student, backend="eager")
    for _ in range(2):
        with torch.no_grad():
            compiled(torch.randn(2, 3, 8, 8))
        compiled(images)
        assert numbers(model.regularizer()) == expected(model, images)
    with pytest.raises(xr.TapError, match="not called since"):
        model.regularizer()
