"""The student's outputs in a step, and the images that it was called with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.kinds import check_kind
from xtask_reg.plain_tensor import plain
from xtask_reg.submodules import find_module, with_wrapped
from xtask_reg.taps import Seen, Tap, TapError, TapRecorder, recorders_on
from xtask_reg.uncounted_copy import uncounted_copy


class StudentTaps:
    """The outputs of some submodules of the student: from its last call, from a block, or given by hand.

    Deleting this object removes its hooks; so does deleting a copy of it with the copy's.

    Args:
        student: not wrapped; None if the outputs are given each time.
        modules: the submodules, by path.
        ignored: called at the start of a step; returns the paths that are not needed in it.
        at_calls: whether each call of the student is a step.
    """

    def __init__(
        self,
        student: nn.Module | None,
        modules: Mapping[str, nn.Module],
        ignored: Callable[[], Set[str]],
        at_calls: bool,
    ) -> None:
        self._student = student
        self._recorder: TapRecorder | None = None
        if student is not None:
            self._recorder = TapRecorder(modules, owner="student")
            self._recorder.ignored = ignored
            if at_calls:
                self._recorder.attach_to_calls(student)

    def may_compile(self, whether: bool) -> None:
        """Set whether ``torch.compile`` may include the taps in its graphs, which hides the gradient at them."""
        if self._recorder is not None:
            self._recorder.within_graphs = whether

    def take(
        self, paths: Set[str], images: Tensor | None, features: Mapping[str, Tensor] | None
    ) -> tuple[Tensor | None, Mapping[str, Tensor]]:
        """The images for the teacher and the student's outputs; this ends the step.

        Args:
            paths: of the outputs.
            images: instead of the first tensor that the student was called with.
            features: instead of what its taps recorded.

        Raises:
            TapError: if a tap did not give exactly one tensor, the student was not called, or a tapped module was
                replaced.
            ValueError: if ``images`` are not what the student was called with, or have been changed in place since, or
                ``features`` lacks a path.
        """
        check_kind(images, (Tensor, type(None)), "the argument images", "a tensor; outputs go to features={path: ...}")
        if features is None and self._recorder is not None:
            if not torch.compiler.is_compiling():
                self._check_in_place(paths, self._recorder)
            called_with, outputs = self._recorder.take(paths)
            return _images(images, called_with), outputs
        if features is None or images is None:
            raise ValueError("without hooks on the student both are needed: regularizer(images, features={path: ...})")
        if self._recorder is not None:
            self._recorder.forget()
        missing = sorted(paths - features.keys())
        if missing:
            raise ValueError(f"features lacks the student's taps {missing}; it has {sorted(features)}")
        return images, {path: uncounted_copy(plain(features[path])) for path in paths}

    @contextmanager
    def recording(self, *called_with: Tensor) -> Iterator[None]:
        """Record the taps inside the block, as one step.

        Raises:
            RuntimeError: without a student.
        """
        if self._recorder is None:
            raise RuntimeError("the regularizer was made without a student: there is nothing to record")
        with self._recorder.recording(*called_with):
            yield

    @contextmanager
    def alone(self, student: nn.Module) -> Iterator[None]:
        """Inside the block, calls of the student and its parts count for no other regularizer of the student."""
        with ExitStack() as others:
            for recorder in recorders_on(student) - {self._recorder}:
                others.enter_context(recorder.paused())
            yield

    def remove(self) -> None:
        """Remove all hooks."""
        if self._recorder is not None:
            self._recorder.remove()
        self._student = None

    __del__ = remove

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._recorder is not None:
            self._recorder.listen()

    def _check_in_place(self, paths: Set[str], recorder: TapRecorder) -> None:
        if self._student is None:
            return
        for path in paths:
            found = _found(self._student, path)
            if found is None or not any(_is_tapped(module, recorder, path) for module in with_wrapped(found)):
                recorder.forget()
                now = "nothing" if found is None else f"a {type(found).__name__}"
                raise TapError(
                    f"the student tap {path!r} was replaced: there is {now} now, and the hook is on what was there "
                    "before; call regularizer.remove(), and build the regularizer after the student's last change"
                )


def _is_tapped(module: nn.Module, recorder: TapRecorder, path: str) -> bool:
    hooks = module._forward_hooks.values()
    return any(isinstance(hook, Tap) and hook.recorder is recorder and hook.path == path for hook in hooks)


def _found(student: nn.Module, path: str) -> nn.Module | None:
    try:
        return find_module(student, path)
    except ValueError:
        return None


def _images(given: Tensor | None, called_with: Sequence[Seen]) -> Tensor | None:
    """The given images, or else the first tensor of the call; None if that has changed since."""
    if given is None:
        return called_with[0].tensor if called_with and called_with[0].is_unchanged else None
    if any(given is argument.tensor and not argument.is_unchanged for argument in called_with):
        raise ValueError(
            f"the images given, {tuple(given.shape)}, were changed in place since the student was called with them: "
            "make a copy before that call, and give the copy, regularizer(copy)"
        )
    tensors = [argument.tensor for argument in called_with]
    if tensors and (given.shape, given.device) not in {(tensor.shape, tensor.device) for tensor in tensors}:
        found = ", ".join(f"{tuple(tensor.shape)} on {tensor.device}" for tensor in tensors)
        raise ValueError(
            f"the images given, {tuple(given.shape)} on {given.device}, are not what the student was called with: "
            f"{found}"
        )
    return given
