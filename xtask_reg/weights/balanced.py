"""A weight relative to the task's gradient."""

from __future__ import annotations

import math
from statistics import median

import torch
from torch import Tensor, nn

from xtask_reg.weights.schedule import Schedule, check_value, value_at

FIRST = 5
"""Measurements before the weight leaves 0, each of another state of the student: at first it may equal its source."""


class Balanced(nn.Module):
    r"""A weight that keeps a term's gradient, at its tap, at a ratio to the gradient of everything else there.

    .. math:: \lambda = r \, \mathrm{median} \frac{\lVert \partial L_{task} / \partial x \rVert}
        {\lVert \partial \ell / \partial x \rVert}

    x is the student's output at the term's tap, or the parameters that a penalty compares; the norms are Frobenius
    norms, and the median is taken over the last measurements. So the weight follows the reduction and the scale of the
    task's loss, and it means the same for every batch size, resolution, number of landmarks, loss scale of mixed
    precision and number of accumulated steps. The task's part is what reaches the tap through the student: its losses,
    and terms at deeper taps.

    A measured step differentiates the term's own loss once more, down to its tap and no further. Until five states of
    the student have been measured (with steps of the optimizer between them) the weight is 0.

    Args:
        ratio: r, a number or a :class:`Schedule`. If it is the number 0 the term is left out.
        every: measure every n-th step.
        window: how many of the last measurements the median is taken of.
        calibrate: how many measurements to make in all; after them the weight stays as it is (but for a schedule of
            ``ratio``), and ``window`` is best as long. None to go on measuring.

    Raises:
        ValueError: for an option out of range.
    """

    def __init__(
        self, ratio: float | Schedule = 0.1, every: int = 5, window: int = 5, calibrate: int | None = None
    ) -> None:
        super().__init__()
        if not isinstance(ratio, Schedule):
            check_value(ratio, "ratio")
        for name, number in (("every", every), ("window", window)):
            if type(number) is not int or number < 1:
                raise ValueError(f"{name}={number!r}; expected a whole number above 0")
        if calibrate is not None and (type(calibrate) is not int or calibrate < FIRST):
            raise ValueError(f"calibrate={calibrate!r}; expected a number of measurements, at least {FIRST}, or None")
        self.ratio = ratio
        self.every = every
        self.window = window
        self.calibrate = calibrate
        self.steps: int = 0
        self.measurements: int = 0
        self.quotients: list[float] = []

    @property
    def is_due(self) -> bool:
        """Whether the next step is to be measured."""
        if self.calibrate is not None and self.measurements >= self.calibrate:
            return False
        return self.is_new or self.steps % self.every == 0

    @property
    def is_new(self) -> bool:
        """Whether these are still the first measurements, which count only if the student has changed in between."""
        return self.measurements < FIRST

    def update(self, task_norm: float, term_norm: float) -> bool:
        """Add a measurement, unless it is not finite (an overflow); returns whether it was added."""
        if not math.isfinite(task_norm + term_norm):
            return False
        self.quotients = [*self.quotients, task_norm / term_norm if term_norm else math.inf][-self.window :]
        self.measurements += 1
        return True

    @property
    def quotient(self) -> float:
        """The factor of the ratio: a median; infinite at first, and if the term has no gradient."""
        return math.inf if self.is_new else median(self.quotients)

    def weight(self, progress: float | None) -> float:
        """The current weight; 0 until there are enough measurements, and if the term has no gradient."""
        quotient = self.quotient
        return value_at(self.ratio, progress) * quotient if math.isfinite(quotient) else 0.0

    def get_extra_state(self) -> Tensor:
        """The state, padded with -1, since ``torch.distributed.checkpoint`` requires a constant length."""
        lacking = [-1.0] * (self.window - len(self.quotients))
        return torch.tensor([self.steps, self.measurements, *self.quotients, *lacking], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        steps, measurements, *quotients = state.tolist()
        self.steps, self.measurements = int(steps), int(measurements)
        self.quotients = [quotient for quotient in quotients if quotient >= 0]

    def extra_repr(self) -> str:
        return f"ratio={self.ratio}, every={self.every}, window={self.window}, calibrate={self.calibrate}"
