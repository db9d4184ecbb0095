"""The paper's heatmaps as an MMPose codec."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.registry import KEYPOINT_CODECS

from xtask_reg.landmarks import decode_heatmaps, gaussian_heatmaps


@KEYPOINT_CODECS.register_module()
class ExactHeatmap(BaseKeypointCodec):
    """Gaussian heatmaps with real-valued centres, exact up to the border, read by a plain argmax.

    Args:
        sigma: of the Gaussian, in heatmap pixels; the paper uses 1.5.
        stride: input pixels per heatmap pixel; the size of the heatmaps follows from that of the input.
        decode: ``'argmax'`` (the paper) or ``'quarter_offset'``.

    A landmark that is invisible, or further than 3 sigma outside the heatmap, has weight 0.

    The heatmaps are those of ``MSRAHeatmap(unbiased=True)``. Where 3 sigma is no whole number, as with 1.5,
    ``MSRAHeatmap`` without it and ``UDPHeatmap`` move a landmark within 3 sigma of the left or top border by a cell.

    Raises:
        ValueError: for a sigma or stride that is not positive, or an unknown way to decode.
    """

    auxiliary_encode_keys = {"input_size"}

    def __init__(
        self, sigma: float = 1.5, stride: int = 4, decode: Literal["argmax", "quarter_offset"] = "argmax"
    ) -> None:
        super().__init__()
        if not (math.isfinite(sigma) and sigma > 0 and isinstance(stride, int) and stride > 0):
            raise ValueError(f"sigma={sigma!r} must be positive and stride={stride!r} a positive integer")
        decode_heatmaps(np.zeros((1, 1, 1)), decode)
        self.sigma = sigma
        self.stride = stride
        self.method = decode

    def encode(
        self, keypoints: np.ndarray, keypoints_visible: np.ndarray | None = None, *, input_size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """Heatmaps ``(K, H, W)`` and weights ``(1, K)`` of keypoints ``(1, K, 2)`` in input pixels.

        Raises:
            ValueError: for several instances, or an ``input_size`` (width, height) that is no multiple of the stride.
        """
        if len(keypoints) != 1:
            raise ValueError(f"keypoints of {len(keypoints)} instances; a heatmap codec needs one instance per image")
        if any(length % self.stride for length in input_size):
            raise ValueError(f"input_size={tuple(input_size)} is not a multiple of the heatmap stride {self.stride}")
        width, height = (int(length) // self.stride for length in input_size)
        points = keypoints / self.stride
        margin = 3 * self.sigma
        inside = ((points > -margin) & (points < np.array([width, height]) - 1 + margin)).all(axis=-1)
        visible = np.ones(points.shape[:2]) if keypoints_visible is None else keypoints_visible
        return {
            "heatmaps": gaussian_heatmaps(points[0], (width, height), self.sigma),
            "keypoint_weights": np.where(inside, visible, 0).astype(np.float32),
        }

    def decode(self, encoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints ``(1, K, 2)`` in input pixels and scores ``(1, K)`` of heatmaps ``(K, H, W)``."""
        points, scores = decode_heatmaps(encoded, self.method)
        return points[None] * self.stride, scores[None]
