"""A weight that means the same beside every task loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from xtask_reg.weights.schedule import Schedule, check_value, value_at

FIRST = 5
"""So many steps at the start are all measured, and weigh nothing: at first student and source may be all but equal."""


class Balanced(nn.Module):
    r"""Keeps the gradient of a term, at its tap, at a ratio of the gradient of all else that reaches the tap.

    .. math:: \lambda = r \, \frac{\overline{\lVert \partial L_{task} / \partial x \rVert}}
        {\overline{\lVert \partial \ell / \partial x \rVert}}

    x is the student's output at the term's tap, or the parameters that a penalty compares; the bars are running means
    of the Frobenius norms. So the weight follows the reduction and the scale of the task's loss, and it means the same
    for every batch size, resolution, number of landmarks, loss scale of mixed precision and number of accumulated
    steps. The task's part is what reaches the tap through the student: its losses, and terms at deeper taps.

    A measured step differentiates the term's own loss once more, down to its tap and no further. Until the first five
    steps were measured the term weighs nothing.

    Args:
        ratio: r, a number or a :class:`Schedule`. The term is left out if it is the number 0.
        every: measure each n-th step.
        smoothing: how much of the running means a measurement leaves, 0 to below 1.
        calibrate: after so many measurements the weight stays as it is (but for a schedule of ``ratio``); None to
            measure on.

    Raises:
        ValueError: for an option out of range.
    """

    def __init__(
        self, ratio: float | Schedule = 0.1, every: int = 5, smoothing: float = 0.8, calibrate: int | None = None
    ) -> None:
        super().__init__()
        if not isinstance(ratio, Schedule):
            check_value(ratio, "ratio")
        if type(every) is not int or every < 1:
            raise ValueError(f"every={every!r}; expected a whole number of steps above 0")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing={smoothing!r}; expected a number from 0 to below 1")
        if calibrate is not None and (type(calibrate) is not int or calibrate < FIRST):
            raise ValueError(f"calibrate={calibrate!r}; expected a number of measurements, at least {FIRST}, or None")
        self.ratio = ratio
        self.every = every
        self.smoothing = smoothing
        self.calibrate = calibrate
        self.steps = 0
        self.measurements = 0
        self.task_norm = 0.0
        self.term_norm = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the step that comes is to be measured."""
        if self.calibrate is not None and self.measurements >= self.calibrate:
            return False
        return self.measurements < FIRST or self.steps % self.every == 0

    def update(self, task_norm: float, term_norm: float) -> None:
        """Take a measurement into the running means; one that is not finite (an overflow) is left out."""
        if not math.isfinite(task_norm + term_norm):
            return
        keep = (
            self.smoothing * (1 - self.smoothing**self.measurements) / (1 - self.smoothing ** (self.measurements + 1))
        )
        self.task_norm = keep * self.task_norm + (1 - keep) * task_norm
        self.term_norm = keep * self.term_norm + (1 - keep) * term_norm
        self.measurements += 1

    def weight(self, progress: float | None) -> float:
        """The weight now; 0 while there is none."""
        if self.measurements < FIRST or self.term_norm == 0:
            return 0.0
        return value_at(self.ratio, progress) * self.task_norm / self.term_norm

    def get_extra_state(self) -> Tensor:
        state = [self.steps, self.measurements, self.task_norm, self.term_norm]
        return torch.tensor(state, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        steps, measurements, self.task_norm, self.term_norm = state.tolist()
        self.steps, self.measurements = int(steps), int(measurements)

    def extra_repr(self) -> str:
        return f"ratio={self.ratio}, every={self.every}, smoothing={self.smoothing}, calibrate={self.calibrate}"
