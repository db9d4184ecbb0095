"""What to measure from time to time, and how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xtask_reg.submodules import paired_paths


class Monitor:
    """What the regularizer measures every n-th step: its terms, and the similarity of student and teacher at stages.

    Student and teacher are compared as they run: the student possibly in training mode, where batch norms use the
    batch's statistics, and the teacher in eval mode. So even equal networks need not start at 1; compare with the first
    measurement.

    Args:
        stages: where student and teacher are compared: the teacher's path by the student's, or a list if they are the
            same. None for the stages of both encoders, as :func:`xtask_reg.find_stages` finds them. Maps whose channels
            are last are compared as ``(B, C, H, W)``; both networks are called once to see that.
        every: measure every n-th step, the first one included.

    Raises:
        ValueError: if ``every`` is not a whole number above 0.
        TypeError: if ``stages`` is a string.
    """

    def __init__(self, stages: Mapping[str, str] | Sequence[str] | None = None, every: int = 50) -> None:
        if type(every) is not int or every < 1:
            raise ValueError(f"every={every!r}; expected a whole number of steps above 0")
        self.stages: dict[str, str] | None = None if stages is None else paired_paths(stages)
        self.every = every

    def __repr__(self) -> str:
        return f"Monitor(stages={self.stages}, every={self.every})"
