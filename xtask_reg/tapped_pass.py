"""The forward pass of a frozen network up to the deepest of its tapped submodules."""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from xtask_reg.submodules import WRAPPERS, find_module
from xtask_reg.taps import StopAtTap, TapError, TapRecorder

Pass = Callable[[Tensor], dict[str, Tensor]]


class TappedPass:
    """The outputs of some submodules of a network, without computing what comes after them.

    The first pass is complete: it shows whether each submodule gives one tensor, once, and which is called last. Later
    passes end there, unless hooks or wrappers in the network have something to do after it. Compiled passes do not,
    since the compiler drops unused operations. Copies and pickles start with a complete pass again.

    Args:
        network: in eval mode, without gradients.
        paths: dotted paths of the submodules.
        compile: whether to compile later passes, or the mode of ``torch.compile``.
    """

    def __init__(self, network: nn.Module, paths: Set[str], compile: bool | str) -> None:
        self._network, self._paths, self._compile = network, paths, compile
        self._later: Pass | None = None

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs by path, in the order of the calls.

        Raises:
            ValueError: for an unknown path.
            TapError: if a submodule did not give exactly one tensor.
        """
        if self._later is not None:
            return self._later(images)
        outputs = self._ended_at(None)(images)
        self._later = self._compiled() if self._compile else self._ended_at(next(reversed(outputs), None))
        return outputs

    def _recorder(self) -> TapRecorder:
        return TapRecorder({path: find_module(self._network, path) for path in self._paths}, owner="teacher")

    def _ended_at(self, last: str | None) -> Pass:
        last = last if _may_be_left(self._network) else None

        def run(images: Tensor) -> dict[str, Tensor]:
            recorder = self._recorder()
            try:
                recorder.begin(last=last)
                with suppress(StopAtTap):
                    self._network(images)
                recorder.end()
            except Exception as error:
                _explain(error, recorder)
                raise
            finally:
                recorder.remove()
            return recorder.take(self._paths)[1]

        return run

    def _compiled(self) -> Pass:
        # without the frozenset and the context managers of `_ended_at`, which PyTorch 2.6 cannot compile
        recorder, network = self._recorder(), self._network

        def run(images: Tensor) -> dict[str, Tensor]:
            recorder.begin()
            network(images)
            recorder.end()
            return recorder.take(recorder.paths)[1]

        compiled = torch.compile(run, mode=self._compile if isinstance(self._compile, str) else None)
        # CUDA graphs overwrite their outputs in the next run
        return lambda images: {path: output.clone() for path, output in compiled(images).items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_later": None}


def _explain(error: Exception, recorder: TapRecorder) -> None:
    """Add a note to the error if the pass failed after the last tap."""
    recorder.end()
    with suppress(TapError):
        recorder.take(recorder.paths)
        error.add_note(
            f"in the teacher's first pass, after {', '.join(map(repr, recorder.paths))}: the first pass runs the whole "
            "network. If a later part does not take these images, such as a classifier for one size, put "
            "nn.Identity() in its place"
        )


def _may_be_left(model: nn.Module) -> bool:
    """Whether a call of the model can be cut short: no part has work to do after its own call.

    Forward hooks do, and wrappers: for several devices, for sharded or offloaded weights, and of ``torch.compile``.
    """
    return not any(
        part._forward_hooks
        or "forward" in vars(part)
        or part._compiled_call_impl is not None
        or any(name in WRAPPERS for name, _ in part.named_children())
        or type(part).__module__.startswith("torch.distributed")
        for part in model.modules()
    )
