from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from xtask_reg import PooledClassifier, retained_classifier

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


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3, 2), (2, 4, 9)])
def test_map_smaller_than_the_window(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"window=3.*at least 3 x 3") as error:
        PooledClassifier(nn.Linear(4, 7), window=3)(torch.randn(shape))
    assert str(shape) in str(error.value)


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
