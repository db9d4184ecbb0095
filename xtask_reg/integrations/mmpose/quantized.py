"""MMPose's random box transform with few outcomes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmpose.datasets.transforms import RandomBBoxTransform
from mmpose.registry import TRANSFORMS


@TRANSFORMS.register_module()
class QuantizedBBoxTransform(RandomBBoxTransform):
    """MMPose's ``RandomBBoxTransform`` with a scale and a rotation from two lists, and without shifts.

    Each is drawn uniformly: a value that stands twice is drawn twice as often. With a flip, a sample thus makes
    ``2 * len(scales) * len(rotations)`` different images, a finite number as :class:`xtask_reg.TeacherCache` needs it.

    Args:
        scales: what the box is scaled by. 1 is the box as it is; 1.25 shows the person at 1 / 1.25 of the size.
        rotations: degrees.

    Raises:
        ValueError: for an empty list, a scale that is not positive, or values that are not finite.
    """

    def __init__(self, scales: Sequence[float] = (1.0,), rotations: Sequence[float] = (0.0,)) -> None:
        super().__init__(shift_prob=0.0, scale_prob=1.0, rotate_prob=1.0)
        self.scales, self.rotations = tuple(map(float, scales)), tuple(map(float, rotations))
        finite = np.isfinite([*self.scales, *self.rotations]).all()
        if not (self.scales and self.rotations and finite and min(self.scales) > 0):
            raise ValueError(
                f"QuantizedBBoxTransform: scales={scales!r}, rotations={rotations!r}; expected a list of positive "
                "numbers and one of degrees"
            )

    @cache_randomness
    def _get_transform_params(self, num_bboxes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """No offset, the scales ``(n, 1)`` and the rotations ``(n,)``."""
        scales = np.random.choice(self.scales, (num_bboxes, 1))
        return np.zeros((num_bboxes, 2)), scales, np.random.choice(self.rotations, num_bboxes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(scales={self.scales}, rotations={self.rotations})"
