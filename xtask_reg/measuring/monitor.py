"""What is looked at from time to time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Monitor:
    """What the regularizer looks at each n-th step, beside its terms.

    Args:
        stages: where student and teacher are compared: the student's paths by which the teacher's are found, or one
            list if they are the same.
        every: measure each n-th step, the first one included.

    Raises:
        ValueError: if ``every`` is not a whole number above 0.
    """

    def __init__(self, stages: Mapping[str, str] | Sequence[str] = (), every: int = 50) -> None:
        if type(every) is not int or every < 1:
            raise ValueError(f"every={every!r}; expected a whole number of steps above 0")
        self.stages = dict(stages) if isinstance(stages, Mapping) else {stage: stage for stage in stages}
        self.every = every
        self.steps = 0

    @property
    def is_due(self) -> bool:
        """Whether the step that comes is to be measured."""
        return self.steps % self.every == 0
