"""Which submodules of a model can be tapped, and what each does in one call of the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.kinds import check_kind
from xtask_reg.modes import evaluating
from xtask_reg.submodules import check_not_lazy, unwrap

Hook = Callable[..., None]


@dataclass(frozen=True)
class Tappable:
    """A submodule in one call of a model.

    Attributes:
        path: its dotted path.
        type: name of its class.
        shape: of its output; None if that is not a single tensor, or the submodule was never called.
        calls: how often it was called.
        parameters: number of parameters in it.
        reason: why it cannot be tapped; empty if it can.
        joins: whether it was called with a list, tuple or dict of tensors, as decoders and parallel branches are.
    """

    path: str
    type: str
    shape: tuple[int, ...] | None
    calls: int
    parameters: int
    reason: str
    joins: bool


@dataclass
class _Called:
    """The calls of a submodule, and the class of its last output, with the shape if that is a tensor."""

    times: int = 0
    shape: tuple[int, ...] | None = None
    kind: str = ""
    joins: bool = False


def list_taps(model: nn.Module, images: Tensor) -> list[Tappable]:
    """Call a model once, and list its submodules in the order in which they were called.

    A submodule can be tapped if it is called exactly once and gives one tensor. Those that are never called come last.
    The call is in eval mode and without gradients, on the model's own device and in its precision; other required
    arguments of ``forward`` are None. Afterwards modes, random state and hooks are what they were.

    Args:
        model: any module, wrapped or not; the paths are those inside a wrapper around the whole.
        images: what the model is called with, usually ``(B, 3, H, W)``.

    Raises:
        ValueError: if the model cannot be called with the images, or has lazy parameters, which a call would change.

    Example:
        >>> [tap.path for tap in list_taps(model, torch.zeros(1, 3, 64, 64)) if not tap.reason]
    """
    model = unwrap(model)
    check_not_lazy(model)
    called = _call(model, images)
    modules = [(path, module) for path, module in model.named_modules() if path]
    order = {module: rank for rank, module in enumerate(called)}
    modules.sort(key=lambda named: order.get(named[1], len(order)))
    return [_describe(path, module, called.get(module, _Called())) for path, module in modules]


def _describe(path: str, module: nn.Module, called: _Called) -> Tappable:
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Tappable(path, type(module).__name__, called.shape, called.times, parameters, _reason(called), called.joins)


def _reason(called: _Called) -> str:
    if called.times == 0:
        return "never called itself"
    if called.times > 1:
        return f"called {called.times} times"
    return f"gives a {called.kind}" if called.shape is None else ""


def _call(model: nn.Module, images: Tensor) -> dict[nn.Module, _Called]:
    """The submodules that a call of the model calls, in the order of their first calls."""
    called: dict[nn.Module, _Called] = {}

    def begins(module: nn.Module, args: Any) -> None:
        one = called.setdefault(module, _Called())
        one.times += 1
        one.joins = one.joins or any(map(_holds_tensors, args))

    def ends(module: nn.Module, args: Any, output: Any) -> None:
        called[module].shape = tuple(output.shape) if isinstance(output, Tensor) else None
        called[module].kind = type(output).__name__

    watched_call(model, images, begins, ends)
    return called


def watched_call(model: nn.Module, images: Tensor, begins: Hook, ends: Hook) -> Any:
    """The output of a model, called as in :func:`list_taps` with hooks on all its submodules.

    Args:
        model: any module that is not wrapped.
        images: what it is called with.
        begins: called before each submodule, with it and its arguments.
        ends: called after each submodule, with it, its arguments and its output.

    Raises:
        ValueError: if the model cannot be called with the images.
    """
    handles = []
    for module in model.modules():
        handles += [module.register_forward_pre_hook(begins), module.register_forward_hook(ends)]
    try:
        return unchanged_call(model, images)
    finally:
        for handle in handles:
            handle.remove()


def unchanged_call(model: nn.Module, images: Tensor) -> Any:
    """The output of a model, called as in :func:`list_taps`.

    Raises:
        ValueError: if it cannot be called with the images.
    """
    images = as_parameters(images, model)
    others = _left_out(model)
    with _unchanged(model, images.device), torch.no_grad():
        try:
            return model(images, **others)
        except Exception as error:
            message = " ".join(str(error).split()) or type(error).__name__
            given, advice = f"images of shape {tuple(images.shape)}", "give images=... that it takes"
            if others:
                given += f" and None for {', '.join(others)}"
                advice = "give the part that takes images alone (its encoder) instead"
            raise ValueError(f"{type(model).__name__} cannot be called with {given}: {message}; {advice}") from error


def _holds_tensors(argument: Any) -> bool:
    values = argument.values() if isinstance(argument, Mapping) else argument
    return isinstance(values, (list, tuple, ValuesView)) and any(isinstance(value, Tensor) for value in values)


def _left_out(model: nn.Module) -> dict[str, None]:
    """None for each argument that ``forward`` requires besides the images, such as MMPose's data samples."""
    others = list(inspect.signature(model.forward).parameters.values())[1:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {other.name: None for other in others if other.default is other.empty and other.kind in named}


def as_parameters(images: Tensor, model: nn.Module) -> Tensor:
    """The images on the model's device and in its precision; ``TypeError`` if they are not a tensor."""
    check_kind(images, Tensor, "the argument images", "a tensor (B, C, H, W)")
    return images.to(next((p for p in model.parameters() if p.is_floating_point()), images))


@contextmanager
def _unchanged(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The model in eval mode and not compiled; its modes and the random state are restored."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), torch.compiler.set_stance("force_eager"), evaluating(model):
        yield
