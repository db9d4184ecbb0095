"""Makes one training step, and records the losses and where their gradients arrive."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mmengine.runner import Runner
from torch import Tensor, nn

from xtask_reg.integrations.mmpose.doctor.gradients import Gradients, gradients_of
from xtask_reg.integrations.mmpose.doctor.watch import TermWatch, kept_outputs, watched_terms
from xtask_reg.integrations.mmpose.doctor.weighting import act_at_one_place, balanced_weight, largest
from xtask_reg.integrations.mmpose.errors import one_line_errors
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.weights.balanced import Balanced

TASK, FIRST_LAYER = "task", "first layer"
"""Reserved names: of all losses but the terms together, and of the place of the first trainable layer."""


@dataclass
class Step:
    """The record of one forward and several backward passes.

    Args:
        inputs: the images after the data preprocessor, ``(B, 3, H, W)``.
        samples: their annotations.
        unlabelled: the images without labels on which the terms are compared, if a hook gave some.
        features: shape of the encoder's last output, if it is known.
        losses: mean of each loss, by name; terms are not weighted.
        outputs: the tapped outputs of the student, by path.
        watches: one per term, by name.
        weights: of the terms, by name; see :func:`make_step`.
        gradients: weighted, by term and under ``TASK``; the places are named by the terms, and ``FIRST_LAYER``.
        report: what the regularizer's monitor measured.
        error: why the step failed; then the rest is empty.
    """

    inputs: Tensor
    samples: list[Any]
    unlabelled: Tensor | None = None
    features: tuple[int, ...] | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    watches: dict[str, TermWatch] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, Gradients] = field(default_factory=dict)
    report: dict[str, float] = field(default_factory=dict)
    error: str | None = None

    def weighted(self, name: str) -> Tensor:
        """A loss as it is minimised."""
        return self.weights.get(name, 1.0) * self.losses[name]


def make_step(runner: Runner, batch: Any, regularizer: CrossTaskRegularizer | None, first_layer: str | None) -> Step:
    """Make a forward pass and backward passes of the task and each term; no parameter changes, no gradient remains.

    A schedule counts with its largest weight, a balanced term with the weight that follows from this step's gradients.

    Raises:
        ValueError: if the model refuses the batch, unless its encoder gave features and its stride does not divide the
            images.
    """
    model = runner.model
    with one_line_errors(), runner.optim_wrapper.optim_context(model):
        data = model.data_preprocessor(batch, True)
    step = Step(data["inputs"], data["data_samples"], getattr(model, "compared_on", None))
    with watched_terms(regularizer) as watches, _kept_shape(model, step):
        terms = {name: watch.term for name, watch in watches.items()}
        step.watches = watches
        try:
            with kept_outputs(model, terms) as step.outputs, one_line_errors():
                with runner.optim_wrapper.optim_context(model):
                    losses = model._run_forward(data, mode="loss")
        except ValueError as error:
            if step.features is None:
                size = " x ".join(map(str, step.inputs.shape[2:]))
                raise ValueError(f"the first step fails on images of {size}: {error}") from error
            if fits(step.inputs.shape[2:], encoder_stride(step)):
                raise
            step.error = str(error)
            return step
        step.report = {} if regularizer is None else regularizer.report
    parsed = model.parse_losses(losses)[1]
    step.losses = {name: value for name, value in parsed.items() if "loss" in name and name != "loss"}
    _differentiate(model, step, first_layer, _loss_scale(runner))
    return step


def _differentiate(model: nn.Module, step: Step, first_layer: str | None, scale: float) -> None:
    """Fill in weights and gradients; balanced terms come last, as the others belong to what they are balanced with."""
    places = {name: _place(watch, step) for name, watch in step.watches.items()}
    places[FIRST_LAYER] = []
    if first_layer is not None:
        places[FIRST_LAYER] = list(model.get_submodule(first_layer).parameters(recurse=False))
    task: Any = sum(value for name, value in step.losses.items() if name not in step.watches)
    step.gradients[TASK] = gradients_of(model, task, places, scale)
    weightings = {name: watch.term.weighting for name, watch in step.watches.items()}
    balanced = {name: weight for name, weight in weightings.items() if isinstance(weight, Balanced)}
    step.weights |= {name: largest(each) for name, each in weightings.items() if not isinstance(each, Balanced)}
    step.gradients |= {name: gradients_of(model, step.weighted(name), places, scale) for name in step.weights}
    rests = {name: _rest(name, step) for name in balanced}
    for name, weight in balanced.items():
        own = gradients_of(model, step.losses[name], places, scale).places[name]
        step.weights[name] = balanced_weight(weight, own, rests[name])
        step.gradients[name] = gradients_of(model, step.weighted(name), places, scale)


def _place(watch: TermWatch, step: Step) -> list[Tensor]:
    """The tensors that a term acts on."""
    if watch.term.reads_parameters:
        return [] if watch.read is None else list(watch.read[0].values())
    output = step.outputs.get(watch.term.student)
    return [] if output is None else [output]


def _rest(name: str, step: Step) -> Tensor | None:
    """The gradient of everything else where a balanced term acts: of the task, and of terms that act elsewhere."""
    term = step.watches[name].term
    others = [other for other in step.weights if not act_at_one_place(term, step.watches[other].term)]
    found = [step.gradients[other].places[name] for other in (TASK, *others)]
    reaching = [gradient for gradient in found if gradient is not None]
    return sum(reaching[1:], reaching[0]) if reaching else None


def encoder_stride(step: Step) -> int | None:
    """Input pixels per cell of the encoder's output, rounded up to a power of two, as map sizes are rounded up."""
    if step.features is None or len(step.features) != 4:
        return None
    ratio = max(size / cells for size, cells in zip(step.inputs.shape[2:], step.features[2:]))
    return 2 ** max(0, math.ceil(math.log2(ratio)))


def fits(size: Sequence[int], stride: int | None) -> bool:
    """Whether height and width are multiples of the stride, if that is known."""
    return stride is None or all(side % stride == 0 for side in size)


@contextmanager
def _kept_shape(model: nn.Module, step: Step) -> Iterator[None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        last = output[-1] if isinstance(output, (tuple, list)) else output
        step.features = tuple(last.shape)

    backbone = getattr(model, "backbone", None)
    handle = None if backbone is None else backbone.register_forward_hook(hook)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def _loss_scale(runner: Runner) -> float:
    """The loss scale of mixed precision; 1 without."""
    scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
    return 1.0 if scaler is None else scaler.get_scale()
