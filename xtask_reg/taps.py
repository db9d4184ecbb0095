"""Taps: the output of a submodule, named by its dotted path, during one call of the model."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.plain_tensor import plain
from xtask_reg.uncounted_copy import uncounted_copy


class TapError(RuntimeError):
    """A tap did not deliver exactly one tensor in a step."""


class StopAtTap(BaseException):
    """Ends a call of a model at a tap, since nothing after it is needed. Not an ``Exception``, so no model catches it.

    Catch it right at the call: a generator that it passes through would keep it, and with it the activations, until the
    next garbage collection.
    """


class Tap:
    """A forward hook that passes a module's output to its recorder; a class, so that it can be copied and pickled."""

    def __init__(self, recorder: TapRecorder, path: str) -> None:
        self.recorder = recorder
        self.path = path

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.recorder.within_graphs and torch.compiler.is_compiling():
            torch._dynamo.graph_break()
        self.recorder.record(self.path, output)


class Seen:
    """A tensor, and whether it has been changed in place since this object was made."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._version = _version_of(tensor)

    @property
    def is_unchanged(self) -> bool:
        """Whether the tensor has not been changed in place since."""
        return _version_of(self.tensor) == self._version


@dataclass
class _Step:
    """The record of one call of a model: its input tensors, and the taps' outputs or errors by path."""

    called_with: tuple[Seen, ...]
    with_gradients: bool
    ignored: Set[str]
    last: str | None = None
    is_block: bool = False
    outputs: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Seen] = field(default_factory=dict)
    goes_on: bool = True

    @property
    def is_open_block(self) -> bool:
        """Whether a block is open, so that calls of the model neither begin nor end a step."""
        return self.is_block and self.goes_on


class TapRecorder:
    """The outputs of some submodules, recorded while :meth:`recording` is open and read once by :meth:`take`.

    The outputs are copied (differentiably), so that an in-place operation after the tapped module does not change them.
    Copies and pickles of the recorder start without recorded outputs, and ignore calls of the model before
    :meth:`listen`: in a copy of the model alone, nothing would read them.

    Args:
        modules: the modules to read, by path.
        owner: what the taps belong to, for messages ("student" or "teacher").

    Attributes:
        ignored: called at the start of a step; returns the paths that are not recorded in it.
        within_graphs: whether ``torch.compile`` may include the recording in its graphs, which hides the gradient at
            the tapped module.
    """

    _listens = False

    def __init__(self, modules: Mapping[str, nn.Module], owner: str) -> None:
        self.owner = owner
        self._inside = {path: _last_within(module) for path, module in modules.items()}
        self.ignored: Callable[[], Set[str]] = frozenset
        self.within_graphs = True
        self._arguments: tuple[str, ...] = ()
        self._step: _Step | None = None
        self._handles = [module.register_forward_hook(Tap(self, path)) for path, module in modules.items()]

    @property
    def paths(self) -> Set[str]:
        """The tapped paths."""
        return self._inside.keys()

    def attach_to_calls(self, model: nn.Module) -> None:
        """Record during every call of ``model`` itself, and keep the tensors it is called with.

        Keyword arguments are kept in the order of ``forward``'s signature. A call inside :meth:`recording` belongs to
        that step.

        Raises:
            TapError: in the call, if ``nn.DataParallel`` makes it with a part of the batch.
        """
        self.listen()
        self._arguments = tuple(inspect.signature(model.forward).parameters)
        self._handles += [
            model.register_forward_pre_hook(self._call_begins, with_kwargs=True),
            model.register_forward_hook(self._call_ends, always_call=True),
        ]

    def listen(self) -> None:
        """Start recording the calls of the model, as there is now a reader."""
        self._listens = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing inside the block; a step begun before it continues afterwards."""
        step, listens = self._step, self._listens
        self._step, self._listens = None, False
        try:
            yield
        finally:
            self._step, self._listens = step, listens

    def _call_begins(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._listens:
            return
        if getattr(module, "_is_replica", False):
            raise TapError("nn.DataParallel gives each device a part of the batch; use DistributedDataParallel instead")
        named = [kwargs[name] for name in self._arguments if name in kwargs]
        others = [value for name, value in kwargs.items() if name not in self._arguments]
        tensors = [value for value in (*args, *named, *others) if isinstance(value, Tensor)]
        step = self._step
        if step is None or not step.is_open_block:
            self.begin(*tensors)
        elif tensors:
            step.called_with = tuple(map(Seen, tensors))

    def _call_ends(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self._listens or (self._step is not None and self._step.is_open_block):
            return
        self.end()
        if output is None and sys.exc_info()[0] is not None:  # the call raised
            self._step = None

    def begin(self, *called_with: Tensor, last: str | None = None, is_block: bool = False) -> None:
        """Start a step, and discard what was not read of the last one.

        Args:
            called_with: the tensors that the model is called with.
            last: the path at whose output :class:`StopAtTap` is raised.
            is_block: whether calls of the model until :meth:`end` belong to this step.
        """
        seen = tuple(map(Seen, called_with))
        self._step = _Step(seen, torch.is_grad_enabled(), self.ignored(), last, is_block)

    def end(self) -> None:
        """End the step: the model has returned, and its next call is another step."""
        if self._step is not None:
            self._step.goes_on = False

    @contextmanager
    def recording(self, *called_with: Tensor) -> Iterator[None]:
        """Record the outputs of the tapped modules inside the block, as one step; see :meth:`begin`."""
        self.begin(*called_with, is_block=True)
        try:
            yield
        except BaseException:
            self._step = None
            raise
        finally:
            self.end()

    def record(self, path: str, output: Any) -> None:
        """Keep one output, or the error to raise for it, for :meth:`take`."""
        step = self._step
        if step is None or not step.goes_on or path in step.ignored:
            return
        fault = self._fault(path, output, step)
        output = output if fault else plain(output)
        if path == step.last and fault is None:  # no copy needed: the call ends here
            step.outputs[path] = output
            raise StopAtTap
        step.outputs[path] = fault or uncounted_copy(output)
        if fault is None and not self.within_graphs and output.requires_grad and output._is_view():
            step.views[path] = Seen(output)

    def _fault(self, path: str, output: Any, step: _Step) -> TapError | None:
        tap = f"the {self.owner} tap {path!r}"
        if path in step.outputs:
            if step.is_block:
                return TapError(
                    f"{tap} fired more than once within one recording: the {self.owner} is called several times, or "
                    "the module is used several times in a call; join the inputs of the calls into one batch, read "
                    "each call separately, or tap a module that runs once"
                )
            return TapError(
                f"{tap} fired more than once within one call: the module is used several times (a shared activation); "
                "tap a module that runs once"
            )
        if not isinstance(output, Tensor):
            return TapError(
                f"{tap} gave a {type(output).__name__}; tap a module whose output is one tensor{self._inner(path)}"
            )
        if step.with_gradients and not torch.is_grad_enabled():
            return TapError(
                f"{tap} ran without gradients inside a call that has them (reentrant activation checkpointing, or "
                "torch.no_grad() in the model); use checkpoint(..., use_reentrant=False) or tap a module outside of it"
            )
        return None

    def take(self, paths: Set[str]) -> tuple[tuple[Seen, ...], dict[str, Tensor]]:
        """The tensors that the model was called with and the outputs of the step, which is then forgotten.

        The outputs are in the order of the modules' calls.

        Raises:
            TapError: if one of ``paths`` did not give exactly one tensor, or there was no call, or it did not end.
        """
        step, self._step = self._step, None
        if step is None:
            silent = next(iter(paths), "")
            raise TapError(self._silent(silent, f"the {self.owner} was not called since its last call was read"))
        if step.goes_on:
            raise TapError(
                f"the last call of the {self.owner} has not ended: it was interrupted, or is read before its end"
            )
        if step.outputs and torch.is_grad_enabled() and not step.with_gradients:
            raise TapError(
                f"the last call of the {self.owner} ran without gradients (a validation after the training call?): "
                "read each step before the next call"
            )
        for path in paths:
            if path not in step.outputs:
                never = "the module itself was never called; some models call the children of a container one by one"
                raise TapError(self._silent(path, never + self._inner(path)))
            if isinstance(step.outputs[path], TapError):
                raise step.outputs[path]
            if path in step.views and not step.views[path].is_unchanged:
                raise TapError(
                    f"the {self.owner} tap {path!r} gives a view that is changed in place after it, so that the "
                    "gradient at the tap cannot be measured: tap another module, or use fixed weights and no monitor"
                )
        return step.called_with, {path: output for path, output in step.outputs.items() if path in paths}

    def forget(self) -> None:
        """Discard the recorded step unread."""
        self._step = None

    def _silent(self, path: str, reason: str) -> str:
        return (
            f"the {self.owner} tap {path!r} did not fire in this step: {reason} (if it ran under torch.compile before "
            "it was tapped: call torch.compiler.reset() after tapping it)"
        )

    def _inner(self, path: str) -> str:
        inside = self._inside[path]
        return f"; perhaps tap {f'{path}.{inside}'!r} instead" if inside else ""

    def remove(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __getstate__(self) -> dict[str, Any]:
        return {**{key: value for key, value in self.__dict__.items() if key != "_listens"}, "_step": None}


def _last_within(module: nn.Module) -> str:
    """The path of a module's last child, or of the last one in it if that is a list or dict, which is never called."""
    names: list[str] = []
    while children := list(module.named_children()):
        name, module = children[-1]
        names.append(name)
        if not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            break
    return ".".join(names)


def recorders_on(model: nn.Module) -> set[TapRecorder]:
    """The recorders that have hooks on the model or a part of it."""
    found = set()
    for module in model.modules():
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            owner = hook.recorder if isinstance(hook, Tap) else getattr(hook, "__self__", None)
            if isinstance(owner, TapRecorder):
                found.add(owner)
    return found


def _version_of(tensor: Tensor) -> int | None:
    """PyTorch's count of in-place changes of a tensor; inference tensors have none."""
    return None if tensor.is_inference() else tensor._version
