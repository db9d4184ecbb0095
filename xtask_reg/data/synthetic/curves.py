"""Polylines: splines through knots, ellipses, and strokes of varying width."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
"""(N, 2) points x, y."""


def spline(knots: ArrayLike, *, closed: bool = False) -> Points:
    """Catmull-Rom spline through ``knots`` (N, 2), with 8 points for each span."""
    p = np.asarray(knots, float)
    padded = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    p0, p1, p2, p3 = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = (np.arange(8) / 8)[:, None]
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def hermite(x: ArrayLike, y: ArrayLike, slope: ArrayLike, *, samples: int = 8) -> Points:
    """Cubic Hermite curve y(x) through knots of increasing ``x``, with the given slopes there."""
    x, y, slope = (np.asarray(v, float) for v in (x, y, slope))
    t = np.arange(samples) / samples
    width = np.diff(x)[:, None]
    h00, h10, h01, h11 = 2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t, 3 * t**2 - 2 * t**3, t**3 - t**2
    values = y[:-1, None] * h00 + slope[:-1, None] * width * h10 + y[1:, None] * h01 + slope[1:, None] * width * h11
    curve = np.stack([x[:-1, None] + width * t, values], -1).reshape(-1, 2)
    return np.concatenate([curve, [[x[-1], y[-1]]]])


def ellipse(centre: ArrayLike, radii: ArrayLike, *, samples: int = 28) -> Points:
    """A closed ellipse."""
    angle = np.linspace(0, 2 * np.pi, samples, endpoint=False)
    return np.asarray(centre) + np.asarray(radii) * np.stack([np.cos(angle), np.sin(angle)], -1)


def stroke(line: Points, width: ArrayLike) -> Points:
    """The closed outline of a brush stroke along ``line``; ``width`` is one number or one for each point."""
    tangent = np.gradient(line, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], -1) / (np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-12)
    half = normal * np.broadcast_to(np.asarray(width) / 2, len(line))[:, None]
    return np.concatenate([line + half, (line - half)[::-1]])


def taper(count: int, *, power: float = 1.0) -> NDArray[np.float64]:
    """Relative widths of a stroke that is full in the middle and pointed at both ends."""
    return np.sin(np.linspace(0, np.pi, count)) ** power


def mirrored(points: Points) -> Points:
    """The points reflected at x = 0, in reversed order."""
    return points[::-1] * (-1.0, 1.0)
