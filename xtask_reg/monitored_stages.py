"""The stages at which a monitor compares student and teacher."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from xtask_reg.measuring.monitor import Monitor
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.two_encoders import TwoEncoders


def monitored_stages(
    monitor: Monitor | None, student: nn.Module | None, teacher: nn.Module | None, images: Tensor | None
) -> Sequence[Mapping[str, Any]]:
    """Pairs of paths in student and teacher, with connectors that put the channels where the monitor expects them.

    Empty without a monitor. If the stages cannot be paired, there is a warning, unless they were named.
    """
    if monitor is None:
        return []
    message = "the monitor compares no stages: without one teacher and a student, name them"
    if isinstance(teacher, FrozenTeacher) and student is not None:
        try:
            return TwoEncoders(student, teacher, monitor.stages, images).monitored()
        except ValueError as error:
            message = f"the monitor compares no stages of student and teacher: {error}"
    if monitor.stages is None:
        warnings.warn(message)
    return [{"student": own, "teacher": other} for own, other in (monitor.stages or {}).items()]
