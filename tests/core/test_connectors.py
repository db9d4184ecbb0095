from __future__ import annotations

import doctest
import importlib
import pkgutil
import re

import numpy as np
import pytest
import torch
from torch import nn

import xtask_reg as xr
from xtask_reg import connectors
from xtask_reg.connectors import PooledClassifier, Projection, Resize, inverted_projection, retained_classifier

CLASSIFIERS = {
    "linear": lambda: nn.Linear(4, 7),
    "conv": lambda: nn.Conv2d(4, 7, 1),
    "no bias": lambda: nn.Linear(4, 7, False),
}


@pytest.mark.parametrize("shape", [(2, 4), (3, 4, 5), (2, 4, 3, 6), (1, 4, 2, 3, 4)])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_pooled_classifier_against_numpy(kind: str, shape: tuple[int, ...]) -> None:
    classifier, features = CLASSIFIERS[kind](), torch.randn(shape)
    weight = classifier.weight.detach().numpy().reshape(7, 4)
    bias = 0 if classifier.bias is None else classifier.bias.detach().numpy()
    pooled = np.array([[channel.mean() for channel in image] for image in features.numpy()])
    logits = PooledClassifier(classifier)(features)
    assert logits.shape == (shape[0], 7)
    np.testing.assert_allclose(logits.detach().numpy(), pooled @ weight.T + bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize(("height", "width"), [(3, 3), (4, 4), (3, 5)])
def test_window_against_numpy(kind: str, height: int, width: int) -> None:
    """The logits of a source that pools over 3 x 3 cells, averaged over the window's positions."""
    classifier, features = CLASSIFIERS[kind](), torch.randn(2, 4, height, width)
    weight = classifier.weight.detach().numpy().reshape(7, 4)
    bias = 0 if classifier.bias is None else classifier.bias.detach().numpy()
    logits = [
        features.numpy()[:, :, y : y + 3, x : x + 3].mean((2, 3)) @ weight.T + bias
        for y in range(height - 2)
        for x in range(width - 2)
    ]
    found = retained_classifier(PooledClassifier(classifier, window=3))(features)
    np.testing.assert_allclose(found.detach().numpy(), np.mean(logits, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3, 2), (2, 4, 2, 3), (2, 4, 9)])
def test_map_smaller_than_the_window(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"window=3.*at least 3 x 3") as error:
        PooledClassifier(nn.Linear(4, 7), window=3)(torch.randn(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3, 3), (2, 3, 4, 4), (4,), (2, 3, 4)])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_other_channels_than_the_classifier_s_are_named(kind: str, shape: tuple[int, ...]) -> None:
    for window in (None, 3):
        with pytest.raises(ValueError, match=r"a classifier of 4 channels; expected \(images, 4, \*sp.*Proj") as error:
            PooledClassifier(CLASSIFIERS[kind](), window)(torch.randn(shape))
        assert str(shape) in str(error.value)


def test_a_window_of_one_cell_is_global_pooling() -> None:
    classifier, features = nn.Linear(4, 7), torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(PooledClassifier(classifier, 1)(features), PooledClassifier(classifier)(features))


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("kept", FLOATS, ids=str)
@pytest.mark.parametrize("given", FLOATS, ids=str)
def test_logits_have_the_precision_of_the_classifier(given: torch.dtype, kept: torch.dtype) -> None:
    classifier, features = nn.Linear(4, 7).to(kept), torch.randn(2, 4, 3, 5).to(given)
    assert PooledClassifier(classifier)(features).dtype == kept
    assert retained_classifier(classifier)(features).dtype == torch.promote_types(kept, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):  # which leaves float64 as it is
        lowered = torch.float64 if kept == torch.float64 else torch.bfloat16
        assert PooledClassifier(classifier)(features).dtype == lowered


@pytest.mark.parametrize("window", [0, -1, 2.5, "7", True])
def test_bad_window(window: object) -> None:
    with pytest.raises(ValueError, match="expected a whole number of cells"):
        PooledClassifier(nn.Linear(4, 7), window=window)


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("frozen_source", [True, False])
@pytest.mark.parametrize("kind", [*CLASSIFIERS, "pooled"])
def test_retained_classifier_is_a_copy(kind: str, frozen_source: bool, trainable: bool) -> None:
    source = PooledClassifier(nn.Linear(4, 7)) if kind == "pooled" else CLASSIFIERS[kind]()
    source.requires_grad_(not frozen_source)
    retained = retained_classifier(source, trainable)
    own, original = list(retained.parameters()), list(source.parameters())
    assert all(torch.equal(one, other) and one is not other for one, other in zip(own, original, strict=True))
    assert {parameter.requires_grad for parameter in own} == {trainable}
    assert {parameter.requires_grad for parameter in original} == {not frozen_source}
    assert isinstance(retained, PooledClassifier)
    assert not isinstance(retained.fc, PooledClassifier)


@pytest.mark.parametrize("wrong", [nn.Conv2d(4, 7, 3), nn.ReLU(), nn.Sequential(nn.Linear(4, 7)), nn.Conv1d(4, 7, 1)])
def test_other_modules_are_named(wrong: nn.Module) -> None:
    for make in (PooledClassifier, retained_classifier):
        with pytest.raises(TypeError, match=r"expected an nn.Linear or a 1x1 nn.Conv2d") as error:
            make(wrong)
        assert repr(wrong) in str(error.value)


@pytest.mark.parametrize("shape", [(2, 4), (3, 4, 5), (2, 4, 3, 6), (1, 4, 2, 3, 4), (1, 4, 1, 1)])
@pytest.mark.parametrize("inverted", [False, True])
def test_projection_against_numpy(shape: tuple[int, ...], inverted: bool) -> None:
    """Each location's channels times a matrix."""
    features = torch.randn(shape)
    projection = inverted_projection(teacher_channels=4, student_channels=7) if inverted else Projection(4, 7)
    parameters = dict(projection.named_parameters())
    assert all(parameter.requires_grad for parameter in parameters.values())
    assert len(parameters) == (1 if inverted else 2)
    matrix = parameters["linear.weight"].detach().numpy()
    constant = 0 if inverted else parameters["linear.bias"].detach().numpy()
    expected = np.empty((shape[0], 7, *shape[2:]))
    for image in range(shape[0]):
        for at in np.ndindex(shape[2:]):
            expected[(image, slice(None), *at)] = matrix @ features.numpy()[(image, slice(None), *at)] + constant
    found = projection(features)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_projection_is_the_1x1_convolution() -> None:
    convolution, projection, features = nn.Conv2d(4, 7, 1), Projection(4, 7), torch.randn(2, 4, 3, 5)
    projection.linear.weight.data = convolution.weight.data.flatten(1)
    projection.linear.bias.data = convolution.bias.data
    torch.testing.assert_close(projection(features), convolution(features))
    with torch.autocast("cpu", torch.bfloat16):
        assert projection(features).dtype == convolution(features).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(4,), (2, 5), (2, 3, 4, 4), ()])
def test_features_of_other_channels_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"4 channels.*\(images, 4, \*spatial\)") as error:
        Projection(4, 7)(torch.zeros(shape))
    assert str(shape) in str(error.value)


def test_inverted_projection_trains_as_a_teacher_connector(net, images: torch.Tensor) -> None:
    """With a teacher of other channels; the gradient reaches student and projection."""
    student, source = net(), net()
    source.layer2[0] = nn.Conv2d(4, 9, 3, stride=2)
    source.fc = nn.Linear(9, 5)
    term = xr.Term(
        xr.CosineAlignmentLoss(),
        student="layer2",
        teacher="layer2",
        weight=1.0,
        name="inverted",
        teacher_connector=inverted_projection(teacher_channels=9, student_channels=6),
    )
    keep = xr.CrossTaskRegularizer(student, xr.FrozenTeacher(source), [term])
    (projected,) = keep.parameters()
    before = projected.detach().clone()
    optimizer = torch.optim.SGD([*student.parameters(), projected], lr=1.0)
    values = []
    for _ in range(5):
        student(images)
        value = keep()["inverted"]
        values.append(value.item())
        optimizer.zero_grad()
        value.backward()
        assert projected.grad.abs().sum() > 0
        assert student.layer2[0].weight.grad.abs().sum() > 0
        optimizer.step()
    assert values[-1] < values[0]
    assert not torch.equal(projected, before)


def interpolation(cells: int, size: int) -> np.ndarray:
    """The weights of a triangular filter, as wide as the step where the map shrinks: ``(size, cells)``."""
    step = cells / size
    centres, cell_centres = (np.arange(size) + 0.5) * step, np.arange(cells) + 0.5
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - cell_centres) / max(step, 1))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [(3, 5), (6, 10), (2, 2), (4, 13), (1, 1), (7, 7), 5, 1])
def test_resize_against_numpy(size: tuple[int, int] | int) -> None:
    features = torch.randn(2, 3, 6, 10, dtype=torch.float64)
    height, width = (size, size) if isinstance(size, int) else size
    expected = interpolation(6, height) @ features.numpy() @ interpolation(10, width).T
    np.testing.assert_allclose(Resize(size)(features).numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_resize_keeps_the_precision(dtype: torch.dtype) -> None:
    features = torch.randn(2, 3, 6, 10, dtype=dtype, requires_grad=True)
    resized = Resize((3, 4))(features)
    resized.sum().backward()
    assert resized.dtype == features.grad.dtype == dtype
    exact = Resize((3, 4))(features.detach().double())
    torch.testing.assert_close(resized.double(), exact, rtol=10 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("size", [0, -3, 2.5, "7", True, (3,), (3, 4, 5), (3, 0), (3, 2.0), None])
def test_bad_size_is_named(size: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"size={size!r}; expected height and width")):
        Resize(size)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 4, 4)])
def test_features_that_are_no_maps_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not maps") as error:
        Resize(2)(torch.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("make", [lambda: Projection(4, 7), lambda: Resize((3, 8))])
def test_compiled_connector_gives_the_same(make) -> None:
    torch.compiler.reset()
    connector, features = make(), torch.randn(2, 4, 6, 5)
    compiled = torch.compile(connector, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(features), connector(features))


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(connectors.__path__)])
def test_examples_run(name: str) -> None:
    module = importlib.import_module(f"xtask_reg.connectors.{name}")
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0
