"""Freezes parts of a network, permanently (FE and FTP of Fu et al. 2020) or for a while (LP-FT, gradual unfreezing)."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from xtask_reg.submodules import check_list_of_paths, find_module


def freeze(model: nn.Module, paths: Sequence[str], but: Sequence[str] = ()) -> Frozen:
    """Keep submodules unchanged during training: their parameters, and the statistics of their batch norms.

    Their parameters stop requiring gradients, and lose existing ones. Whenever the model is called, the submodules are
    in eval mode, even after ``model.train()``; so dropout in them is off.

    With :meth:`Frozen.release` this is linear probing, then fine-tuning (LP-FT; Kumar et al., "Fine-Tuning can Distort
    Pretrained Features and Underperform Out-of-Distribution", ICLR 2022): freeze the encoder, train, release it, train.
    Several, released one after the other, are gradual unfreezing (Howard and Ruder, "Universal Language Model
    Fine-tuning for Text Classification", ACL 2018).

    Args:
        model: the network to train, the one that the loop calls (not a part of it).
        paths: dotted paths of the submodules.
        but: dotted paths of submodules within these that train nevertheless.

    Returns:
        A handle, whose ``release()`` ends it. It is copied and pickled together with the model.

    Raises:
        TypeError: if ``paths`` or ``but`` is a string.
        ValueError: for an unknown path, or one in ``but`` that is not within a frozen submodule.

    Example:
        >>> freeze(student, ["encoder"])  # FE
        >>> freeze(student, ["encoder"], but=["encoder.layer4"])  # FTP
    """
    for option in (paths, but):
        check_list_of_paths(option)
    within = _modules(model, paths)
    kept = _modules(model, but)
    strays = [path for path in but if find_module(model, path) not in within]
    if strays:
        raise ValueError(f"but={strays} is not within paths={list(paths)}; name submodules of the frozen ones")
    called = [model, *(find_module(model, path) for path in paths)]
    return Frozen([module for module in within if module not in kept], called)


def _modules(model: nn.Module, paths: Sequence[str]) -> dict[nn.Module, None]:
    return {module: None for path in paths for module in find_module(model, path).modules()}


def _originals(owner: nn.Module, name: str) -> list[nn.Parameter]:
    """The parameter, or those that it is computed from if it has been parametrized since."""
    if parametrize.is_parametrized(owner, name):
        return list(owner.get_submodule(f"parametrizations.{name}").parameters(recurse=False))
    parameter = owner._parameters.get(name)
    return [] if parameter is None else [parameter]


class Frozen:
    """The handle that :func:`freeze` returns: a hook that puts frozen modules into eval mode whenever the model runs.

    It is a class, so that it can be copied and pickled with the model.
    """

    def __init__(self, modules: Sequence[nn.Module], called: Sequence[nn.Module]) -> None:
        self._modules = list(modules)
        self._required = [(owner, name) for owner, name, parameter in self._parameters() if parameter.requires_grad]
        for _, _, parameter in self._parameters():
            parameter.requires_grad_(False)
            parameter.grad = None  # otherwise the optimizer's next step would use it
        self._handles = [module.register_forward_pre_hook(self) for module in called]
        _all.add(self)

    def __call__(self, module: nn.Module, args: Any) -> None:
        for frozen in self._modules:
            frozen.training = False

    def __repr__(self) -> str:
        return f"<Frozen: {len(self._modules)} modules>"

    def release(self) -> None:
        """Let the modules train again: parameters require gradients again if they did before.

        A second call does nothing. A part that another ``freeze`` holds too thaws when the last of them is released.
        The modules leave eval mode at the next ``model.train()``.
        """
        for handle in self._handles:
            handle.remove()
        required, self._required, self._modules, self._handles = self._required, [], [], []
        for owner, name in required:
            found = _originals(owner, name)
            holder = next((other for other in _all if other._holds(owner, found)), None)
            if holder is not None:
                holder._required.append((owner, name))
                continue
            for parameter in found:
                parameter.requires_grad_(True)
            if not found:
                warnings.warn(
                    f"{name!r} of a frozen {type(owner).__name__} is no longer a parameter: what was made of it stays "
                    "as it is; call requires_grad_(True) on what should train"
                )

    def _parameters(self) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
        for module in self._modules:
            for name, parameter in module.named_parameters(recurse=False):
                yield module, name, parameter

    def _holds(self, owner: nn.Module, parameters: Sequence[nn.Parameter]) -> bool:
        if owner in self._modules:
            return True
        return any(own is parameter for _, _, own in self._parameters() for parameter in parameters)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _all.add(self)


_all: weakref.WeakSet[Frozen] = weakref.WeakSet()
"""All handles, since several may freeze the same parameter; a released one holds nothing."""
