"""One training step, watched: what the losses are, and where their gradients go."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mmengine.runner import Runner
from torch import Tensor, nn

from xtask_reg.integrations.mmpose.doctor.gradients import Gradients, gradients_of
from xtask_reg.integrations.mmpose.doctor.start import one_line, one_line_errors
from xtask_reg.taps import find_module
from xtask_reg.term import Term


class TermWatch:
    """Notes what a term is given in the step. A term that cannot be computed counts as 0, and the step goes on."""

    def __init__(self, term: Term) -> None:
        self.term = term
        self.taps: tuple[Tensor, Tensor] | None = None
        self.compared: tuple[Tensor, Tensor] | None = None
        self.error: str | None = None
        self._compute = term.forward

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        self.taps = (student, teacher)
        try:
            return self._compute(student, teacher)
        except (ValueError, RuntimeError, TypeError) as error:
            self.error = one_line(error)
            return self.term.nothing(student)

    def note_compared(self, loss: nn.Module, given: tuple[Tensor, Tensor]) -> None:
        """A forward pre-hook of the term's loss."""
        self.compared = given


@dataclass
class Step:
    """What one forward and some backward passes left.

    Args:
        inputs: the images behind the data preprocessor, ``(B, 3, H, W)``.
        samples: their annotations.
        features: shape of the encoder's last output, if it is known.
        losses: mean of each loss, by name.
        taps: the tapped outputs of the student, by path.
        watches: one a term, by name.
        gradients: by term; of all other losses together under ``'task'``.
        error: why the step could not be made; then the rest is empty.
    """

    inputs: Tensor
    samples: list[Any]
    features: tuple[int, ...] | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    taps: dict[str, Tensor] = field(default_factory=dict)
    watches: dict[str, TermWatch] = field(default_factory=dict)
    gradients: dict[str, Gradients] = field(default_factory=dict)
    error: str | None = None


def make_step(runner: Runner, batch: Any, terms: Mapping[str, Term], first_layer: str | None) -> Step:
    """Forward, and one backward pass a loss; parameters do not change, and no gradient stays.

    Raises:
        ValueError: if the model refuses the batch and that is not for the size of the images.
    """
    model = runner.model
    with one_line_errors(), runner.optim_wrapper.optim_context(model):
        data = model.data_preprocessor(batch, True)
    step = Step(data["inputs"], data["data_samples"])
    with _watched(model, terms, step):
        try:
            with one_line_errors(), runner.optim_wrapper.optim_context(model):
                losses = model._run_forward(data, mode="loss")
        except ValueError as error:
            if fits(step.inputs, encoder_stride(step)):
                raise
            step.error = str(error)
            return step
    parsed = model.parse_losses(losses)[1]
    step.losses = {name: value for name, value in parsed.items() if "loss" in name and name != "loss"}
    task = sum(value for name, value in step.losses.items() if name not in terms)
    scale = _loss_scale(runner)
    for name, loss in {"task": task, **{name: step.losses[name] for name in terms}}.items():
        step.gradients[name] = gradients_of(model, loss, step.taps, first_layer, scale)
    return step


def encoder_stride(step: Step) -> int | None:
    """Input pixels per cell of the encoder's output, rounded up to a power of two: feature maps are rounded up."""
    if step.features is None or len(step.features) != 4:
        return None
    ratio = max(size / cells for size, cells in zip(step.inputs.shape[2:], step.features[2:]))
    return 2 ** max(0, math.ceil(math.log2(ratio)))


def fits(inputs: Tensor, stride: int | None) -> bool:
    """Whether height and width are multiples of the stride."""
    return stride is None or all(size % stride == 0 for size in inputs.shape[2:])


@contextmanager
def _watched(model: nn.Module, terms: Mapping[str, Term], step: Step) -> Iterator[None]:
    handles = [
        find_module(model, path).register_forward_hook(_keep_output(step, path))
        for path in {term.student for term in terms.values()}
    ]
    if hasattr(model, "backbone"):
        handles.append(model.backbone.register_forward_hook(_keep_shape(step)))
    step.watches = {name: TermWatch(term) for name, term in terms.items()}
    for name, watch in step.watches.items():
        handles.append(terms[name].loss.register_forward_pre_hook(watch.note_compared))
        terms[name].forward = watch
    try:
        yield
    finally:
        for term in terms.values():
            del term.forward
        for handle in handles:
            handle.remove()


def _keep_output(step: Step, path: str) -> Any:
    """A hook that keeps the output itself: unlike the regularizer's copy, the task's gradient passes through it.

    What goes on is a copy, as an in-place operation behind the module would otherwise change what was kept.
    """

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        step.taps[path] = output
        return output.clone()

    return hook


def _keep_shape(step: Step) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        last = output[-1] if isinstance(output, (tuple, list)) else output
        step.features = tuple(last.shape)

    return hook


def _loss_scale(runner: Runner) -> float:
    """By which mixed precision multiplies the losses."""
    scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
    return 1.0 if scaler is None else scaler.get_scale()
