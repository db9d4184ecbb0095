"""Fine-tuning only a part of a network: what Fu et al. 2020 call FE and FTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from xtask_reg.taps import find_module


def freeze(model: nn.Module, paths: Sequence[str], but: Sequence[str] = ()) -> None:
    """Keep submodules as they are through training: their parameters, and the statistics of their batch norms.

    Their parameters stop requiring gradients, and whenever the model is called they are in eval mode, whatever
    ``model.train()`` said in between; dropout within them is off therefore.

    Args:
        model: the network that is trained, as it is called in the loop (not its parts).
        paths: dotted paths of the submodules.
        but: dotted paths of submodules within these that train all the same.

    Raises:
        TypeError: if ``paths`` or ``but`` is a string.
        ValueError: for an unknown path, or one in ``but`` that is not within a frozen one.

    Example:
        >>> freeze(student, ["encoder"])  # FE
        >>> freeze(student, ["encoder"], but=["encoder.layer4"])  # FTP
    """
    for option in (paths, but):
        if isinstance(option, str):
            raise TypeError(f"{option!r} is a string; expected a list of dotted paths, [{option!r}]")
    within = _modules(model, paths)
    kept = _modules(model, but)
    strays = [path for path in but if find_module(model, path) not in within]
    if strays:
        raise ValueError(f"{strays} should be excepted from {list(paths)}, but are not within them")
    modules = [module for module in within if module not in kept]
    for module in modules:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    stay = _StayInEval(modules)
    for module in (model, *(find_module(model, path) for path in paths)):
        module.register_forward_pre_hook(stay)


def _modules(model: nn.Module, paths: Sequence[str]) -> dict[nn.Module, None]:
    return {module: None for path in paths for module in find_module(model, path).modules()}


class _StayInEval:
    """A hook that puts modules into eval mode. An object, so that it can be copied and pickled with the model."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self.modules = modules

    def __call__(self, module: nn.Module, args: Any) -> None:
        for frozen in self.modules:
            frozen.training = False
