"""The facts about the losses, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TapFacts:
    """What a term reads from a network.

    Args:
        path: of the module; empty for the whole network.
        shape: of its output; None where its parameters are read.
        parameters: the number of those parameters; None where the output is read.
        dtype: of the output, or of the first parameter.
        has_gradient: whether a gradient flows back through it.
    """

    path: str
    shape: tuple[int, ...] | None
    parameters: int | None
    dtype: str
    has_gradient: bool


@dataclass(frozen=True)
class Pull:
    """The weighted gradient of a term at one place, beside that of the task.

    Args:
        term: norm of the term's gradient; None if it does not reach the place.
        task: norm of the gradient of all other losses together, likewise.
        ratio: ``term / task``; None if the task's is zero or missing.
        cosine: of the angle between both; None if one is zero or missing.
    """

    term: float | None
    task: float | None
    ratio: float | None
    cosine: float | None


@dataclass(frozen=True)
class TermFacts:
    """One regularizing term in the batch.

    Args:
        name: its key among the losses.
        weight: lambda; the largest of a schedule, and of a balanced weight what the gradients of this step give.
        weighting: lambda of the config in short: ``'0.002'``, ``'CosineDecay(0.002)'``, ``'Balanced(0.1)'``.
        scheduled: whether it depends on the progress of training.
        balanced: whether it depends on the gradients.
        value: the loss without its weight; None if it could not be computed.
        weighted: ``weight * value``.
        share: of the total loss.
        student: what is read from the student.
        teacher: what is read from the teacher; None for a loss of the student alone.
        difference: ‖student - teacher‖ / ‖teacher‖ of what the loss compares (after the connectors); None if the
            shapes differ, or nothing is compared.
        apart: the same for the outputs of the taps; None for parameters as well.
        at_tap: its gradient at the student's tap, or at the parameters that it compares.
        at_first_layer: its gradient at the parameters of the first layer that trains.
        error: why it could not be computed.
    """

    name: str
    weight: float
    weighting: str
    scheduled: bool
    balanced: bool
    value: float | None
    weighted: float | None
    share: float | None
    student: TapFacts
    teacher: TapFacts | None
    difference: float | None
    apart: float | None
    at_tap: Pull
    at_first_layer: Pull
    error: str | None


@dataclass(frozen=True)
class LossFacts:
    """The losses of the batch.

    Args:
        task: each loss that is not a term, by name.
        terms: the terms, in the order of the config.
        left_out: names of the terms of weight 0.
        total: what is minimised, with the weights given in ``terms``.
        not_finite: losses that are not finite, and parameters whose gradient is not.
        error: why the step failed; then there are no losses.
    """

    task: dict[str, float]
    terms: tuple[TermFacts, ...]
    left_out: tuple[str, ...]
    total: float | None
    not_finite: tuple[str, ...]
    error: str | None


@dataclass(frozen=True)
class StageFacts:
    """Student and teacher at a stage of their encoders.

    Args:
        student: path of the student's module.
        cosine: between their features, a mean over the images; None if the shapes differ.
        cka: linear CKA of their features.
    """

    student: str
    cosine: float | None
    cka: float
