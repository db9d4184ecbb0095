"""Records what the terms read in one step, which does not count as a step of the training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from xtask_reg.integrations.mmpose.errors import one_line
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.submodules import find_module
from xtask_reg.term import Read, Term
from xtask_reg.term_list import student_taps


class TermWatch:
    """Records what a term is given in the step. A term that cannot be computed counts as 0, and the step continues."""

    def __init__(self, term: Term) -> None:
        self.term = term
        self.read: tuple[Read, Read | None] | None = None
        self.compared: tuple[Read, ...] = ()
        self.error: str | None = None
        self._compute = term.forward

    def __call__(self, student: Read, teacher: Read | None) -> Tensor:
        self.read = (student, teacher)
        try:
            return self._compute(student, teacher)
        except (ValueError, RuntimeError, TypeError) as error:
            self.error = one_line(error)
            return self.term.nothing(student if isinstance(student, Tensor) else next(iter(student.values())))

    def note_compared(self, loss: nn.Module, given: tuple[Read, ...]) -> None:
        """A forward pre-hook of the term's loss."""
        self.compared = given


@contextmanager
def watched_terms(regularizer: CrossTaskRegularizer | None) -> Iterator[dict[str, TermWatch]]:
    """A watch for each term. Inside the block all weights are 1, and balanced weights and monitor count no steps."""
    terms: dict[str, Any] = {} if regularizer is None else dict(regularizer.terms.items())
    watches = {name: TermWatch(term) for name, term in terms.items()}
    weightings = {name: term.weighting for name, term in terms.items()}
    with ExitStack() as stack:
        if regularizer is not None:
            stack.callback(setattr, regularizer, "_meter", regularizer._meter)
            regularizer._meter = copy.deepcopy(regularizer._meter)
        for name, term in terms.items():
            stack.callback(term.set_weight, weightings[name])
            stack.callback(delattr, term, "forward")
            stack.callback(term.loss.register_forward_pre_hook(watches[name].note_compared).remove)
            term.set_weight(1.0)
            term.forward = watches[name]
        yield watches


@contextmanager
def kept_outputs(model: nn.Module, terms: Mapping[str, Term]) -> Iterator[dict[str, Tensor]]:
    """The outputs at the student's taps, by path: the tensors themselves.

    Unlike the regularizer's copies, the task's gradient passes through them.
    """
    outputs: dict[str, Tensor] = {}
    taps = student_taps(terms.values())
    handles = [find_module(model, path).register_forward_hook(_keep_at(outputs, path)) for path in taps]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _keep_at(outputs: dict[str, Tensor], path: str) -> Callable[..., Any]:
    """A hook that keeps an output and returns a copy, so that in-place operations do not change what is kept."""

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        outputs[path] = output
        return output.clone()

    return hook
