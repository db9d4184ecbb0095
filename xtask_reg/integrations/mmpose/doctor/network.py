"""The facts about a model's parameters and batch norms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xtask_reg.integrations.mmengine.hook import count_parameters
from xtask_reg.integrations.mmpose.doctor.facts import ParameterFacts, Part
from xtask_reg.integrations.mmpose.doctor.step import Step

CONNECTORS = "connectors"
REGULARIZER = "regularizer"


def parameter_facts(model: nn.Module, step: Step) -> ParameterFacts:
    """The facts after a step; to be called before the model is put in another mode."""
    children = {CONNECTORS if name == REGULARIZER else name: child for name, child in model.named_children()}
    parts = {name: part for name, child in children.items() if (part := Part(*count_parameters(child))).all}
    reached = set().union(*(gradients.reached for gradients in step.gradients.values()))
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    norms = list(_batch_norms(model))
    return ParameterFacts(
        parts=parts,
        total=Part(*count_parameters(model)),
        frozen=tuple(_frozen_paths(model)),
        first_layer=first_trainable_layer(model),
        without_gradient=() if step.error else tuple(sorted(trainable - reached)),
        batch_norms=len(norms),
        batch_statistics=_using_the_batch(norms),
        batch_statistics_in_backbone=_using_the_batch(_batch_norms(getattr(model, "backbone", nn.Identity()))),
    )


def first_trainable_layer(model: nn.Module) -> str | None:
    """Path of the first module with trainable parameters of its own; None without any."""
    for path, module in model.named_modules():
        own = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        if own and not path.startswith(f"{REGULARIZER}."):
            return path
    return None


def _frozen_paths(module: nn.Module, path: str = "") -> Iterator[str]:
    parameters = list(module.parameters())
    if path and parameters and not any(parameter.requires_grad for parameter in parameters):
        yield path
        return
    prefix = f"{path}." if path else ""
    for name, parameter in module.named_parameters(recurse=False):
        if not parameter.requires_grad:
            yield prefix + name
    for name, child in module.named_children():
        yield from _frozen_paths(child, prefix + name)


def _batch_norms(module: nn.Module) -> Iterator[_BatchNorm]:
    return (part for part in module.modules() if isinstance(part, _BatchNorm))


def _using_the_batch(norms: Iterable[_BatchNorm]) -> int:
    return sum(norm.training or norm.running_mean is None for norm in norms)
