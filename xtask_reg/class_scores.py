"""The source's own classifier: the path from a stage to the class scores, traced in one call."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from xtask_reg.connectors import ChannelsFirst, ClassToken, PooledClassifier, TokensToMap, retained_classifier
from xtask_reg.submodules import find_module, unwrap
from xtask_reg.tappable import watched_call

AVERAGES: dict[int, type[nn.Module]] = {3: nn.AdaptiveAvgPool1d, 4: nn.AdaptiveAvgPool2d, 5: nn.AdaptiveAvgPool3d}
"""Average pooling by the number of dimensions of the features."""


@dataclass
class _Call:
    """One call of a submodule after the stage."""

    module: nn.Module
    given: Tensor
    gave: Tensor | None = None

    @property
    def matters(self) -> bool:
        """Whether it returns a tensor other than its input, unlike an identity or dropout."""
        return self.gave is not None and not _same(self.given, self.gave)


@dataclass(frozen=True)
class ClassScores:
    """The arguments of a term on class scores, by their names there.

    Attributes:
        teacher: path of the submodule whose output is the scores.
        student_connector: from the stage's output to scores ``(B, classes)``.
        teacher_connector: flattens the submodule's output if it is a map ``(B, classes, 1, 1)``, else None.
    """

    teacher: str
    student_connector: nn.Module
    teacher_connector: nn.Module | None


def class_scores(network: nn.Module, stage: str, images: Tensor) -> ClassScores | None:
    """Where a network computes its class scores, and the connector from its stage's output to them.

    The network is called once, with noise. If it averages the stage's map and classifies with one layer, the connector
    is a :class:`PooledClassifier`. Otherwise it is the sequence of submodules on the way (norms, layers, the
    classifier), with average pooling, flattening, a permutation of the dimensions or the choice of the class token
    where the network does these. It is a trainable copy without dropout, in float32 or a higher precision.

    Args:
        network: the source.
        stage: path of the stage.
        images: of a shape that the network accepts, ``(B, C, H, W)`` or ``(B, C, D, H, W)``.

    Returns:
        None if the network returns no scores ``(B, classes)``, or does something else on the way.
    """
    network = unwrap(network)
    features, calls, scores = _behind(network, stage, images)
    if features is None or not (isinstance(scores, Tensor) and scores.ndim == 2):
        return None
    found = _pooled(features, calls, scores) or _followed(features, calls, scores)
    if found is None:
        return None
    last, connector = found
    path = next(path for path, module in network.named_modules() if module is last.module)
    return ClassScores(path, connector, nn.Flatten() if last.gave is not None and last.gave.ndim > 2 else None)


def _behind(network: nn.Module, stage: str, images: Tensor) -> tuple[Tensor | None, list[_Call], Any]:
    """The stage's output for noise, the calls of submodules after it, and the network's scores."""
    tapped = find_module(network, stage)
    features: list[Tensor] = []
    calls: list[_Call] = []

    def begins(module: nn.Module, args: Any) -> None:
        if features and args and isinstance(args[0], Tensor):
            calls.append(_Call(module, args[0].clone()))

    def ends(module: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if module is tapped:
            features.append(output.clone())
        for call in reversed(calls):
            if call.module is module and call.gave is None:
                call.gave = output.clone()

    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    output = watched_call(network, noise, begins, ends)
    return (features[0] if features else None), calls, getattr(output, "logits", output)


Found = tuple[_Call, nn.Module] | None
"""The call that returns the scores, and the connector."""


def _pooled(features: Tensor, calls: Sequence[_Call], scores: Tensor) -> Found:
    """The connector if the classifier is one layer on the average of the map."""
    average = features.flatten(2).mean(2) if features.ndim in AVERAGES else features.new_empty(0)
    for call in calls:
        if call.gave is None or not _same(call.gave.flatten(1), scores):
            continue
        whole = isinstance(call.module, PooledClassifier) and _same(call.given, features)
        one_layer = isinstance(call.module, (nn.Linear, nn.Conv2d))
        if whole or (one_layer and _same(call.given.flatten(1), average)):
            return call, retained_classifier(call.module)
    return None


def _followed(features: Tensor, calls: Sequence[_Call], scores: Tensor) -> Found:
    """The connector as a chain: the input of each module is the last one's output, possibly after a step between."""
    start, steps, last = features, list[nn.Module](), None
    calls = [call for call in calls if call.matters]
    while not _same(features.flatten(1), scores):
        for step, number in product(_between(features), range(len(calls))):
            if _same(step(features), calls[number].given):
                break
        else:
            return None
        gave = calls[number].gave
        assert gave is not None  # by `matters`
        last, features, calls = calls[number], gave, calls[number + 1 :]
        steps += [*step, last.module]
    if features.ndim > 2:
        steps.append(nn.Flatten())
    precise = torch.promote_types(start.dtype, torch.float32)
    connector = _trainable(steps).to(precise)
    return (last, connector.train()) if last and _gives(connector.eval(), start.to(precise), scores) else None


def _between(features: Tensor) -> list[nn.Sequential]:
    """The steps that networks do in their own ``forward``, between modules; the first is none at all."""
    steps: list[tuple[nn.Module, ...]] = [()]
    if features.ndim in AVERAGES:
        average = (AVERAGES[features.ndim](1), nn.Flatten())
        steps += [average, (nn.Flatten(),), (ChannelsFirst(),), (ChannelsFirst(), *average)]
    if features.ndim == 3:
        steps.append((ClassToken(),))
        if isqrt(features.shape[1] - 1) ** 2 == features.shape[1] - 1 > 0:  # mean of the patches alone
            steps.append((TokensToMap(skip=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    return [nn.Sequential(*modules) for modules in steps]


def _trainable(steps: Sequence[nn.Module]) -> nn.Sequential:
    """A trainable copy of the steps as a sequence, without dropout."""
    copied = nn.Sequential(*map(copy.deepcopy, steps))
    for module in copied.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
    return copied.requires_grad_()


def _gives(connector: nn.Module, features: Tensor, scores: Tensor) -> bool:
    """Whether it computes the scores from the features alone; its modules may have been called with more."""
    try:
        return _same(connector(features), scores)
    except Exception:  # of nearly any type, where a module is called without an argument that it needs
        return False


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether they are equal up to rounding."""
    if one.shape != other.shape:
        return False
    rounding = torch.finfo(other.dtype).eps ** 0.5
    return torch.allclose(one.double(), other.double(), rtol=rounding, atol=rounding * float(other.abs().max()))
