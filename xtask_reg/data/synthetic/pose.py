"""From face units to the image: a turned head, seen by a distant camera."""

from __future__ import annotations

import numpy as np

from xtask_reg.data.synthetic.curves import Points
from xtask_reg.data.synthetic.view import View

_CENTRE = np.array([0.5, 0.47])
_TURN_DEPTH = 0.25


def head_depth(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smooth depth of the face towards the camera, in face units: a dome with a nose."""
    dome = 0.62 * np.exp(-((u / 0.85) ** 2) - ((v - 0.05) / 1.25) ** 2)
    return dome + 0.11 * np.exp(-((u / 0.16) ** 2) - ((v - 0.27) / 0.22) ** 2)


class Pose:
    """Maps face units to image fractions (0 = left/top border, 1 = right/bottom border).

    A point (u, v) at depth z is turned by yaw and pitch about an axis inside the head, then rotated in the plane,
    scaled and shifted:  x = u cos(yaw) + (z - z0) sin(yaw),  y = v cos(pitch) + (z - z0) sin(pitch).
    """

    def __init__(self, view: View) -> None:
        self._turn = np.array([view.yaw, view.pitch])
        self._roll = view.roll
        self.scale: float = view.scale
        self._origin = _CENTRE + (view.shift_x, view.shift_y)

    def head(self, points: Points, *, behind: float = 0.0) -> Points:
        """Points (..., 2) of the head; ``behind`` moves them back from the surface of the face."""
        depth = head_depth(points[..., 0], points[..., 1]) - behind
        return self._place(points * np.cos(self._turn) + self._swing(depth), self._roll)

    def body(self, points: Points) -> Points:
        """Points (..., 2) of neck and shoulders, which follow the head only a little."""
        return self._place(points + self._swing(np.full(points.shape[:-1], 0.1)), 0.3 * self._roll)

    def face_units(self, image: Points) -> tuple[Points, np.ndarray]:
        """The inverse of :meth:`head` at image fractions (..., 2), and the depth after turning, both in face units."""
        turned = (image - self._origin) / self.scale @ _rotation(self._roll)
        points = turned
        for _ in range(4):
            depth = head_depth(points[..., 0], points[..., 1])
            points = (turned - self._swing(depth)) / np.cos(self._turn)
        depth = head_depth(points[..., 0], points[..., 1])
        return points, depth * np.cos(self._turn).prod() - points @ np.sin(self._turn)

    def _swing(self, depth: np.ndarray) -> Points:
        return (depth[..., None] - _TURN_DEPTH) * np.sin(self._turn)

    def _place(self, points: Points, roll: float) -> Points:
        return self._origin + self.scale * (points @ _rotation(roll).T)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
