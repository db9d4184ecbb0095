"""Light and shade on the face: a height field lit by one distant lamp, and soft tints of the skin."""

from __future__ import annotations

import cv2
import numpy as np

from xtask_reg.data.synthetic.canvas import fill_hard
from xtask_reg.data.synthetic.curves import Points
from xtask_reg.data.synthetic.features import mouth, philtrum
from xtask_reg.data.synthetic.identity import Identity
from xtask_reg.data.synthetic.pose import Pose
from xtask_reg.data.synthetic.view import View


def light_map(who: Identity, view: View, hair: Points, size: int) -> np.ndarray:
    """Factors (size, size, 3) by which light and skin tints change the colours of the face; ``hair`` casts a shadow."""
    axis = (np.arange(size) + 0.5) / size
    image = np.stack(np.meshgrid(axis, axis), -1)
    face, depth = Pose(view).face_units(image)
    u, v = face[..., 0].astype(np.float32), face[..., 1].astype(np.float32)
    height = depth.astype(np.float32) + _details(who, view, u, v)
    shade = _lambert(height, view, view.scale * size)
    shade *= 1 - 0.30 * _hair_shadow(hair, view, size)
    return _coloured(shade, view) * _tints(who, view, u, v)


def _bump(u: np.ndarray, v: np.ndarray, x: float, y: float, rx: float, ry: float) -> np.ndarray:
    return np.exp(-(((u - x) / rx) ** 2) - ((v - y) / ry) ** 2)


def _ridge(u: np.ndarray, v: np.ndarray, ends: Points | tuple[Points, Points], width: float) -> np.ndarray:
    """A Gaussian ridge of the given width along the segment between two points."""
    (ax, ay), (dx, dy) = ends[0], ends[1] - ends[0]
    along = np.clip(((u - ax) * dx + (v - ay) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.exp(-(((u - ax - along * dx) ** 2 + (v - ay - along * dy) ** 2) / width**2))


def _details(who: Identity, view: View, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Height of nose, cheeks, eye sockets, chin, lips and philtrum above the dome of the head, in face units."""
    side = np.abs(u)
    lips = mouth(who, view)
    ridge = philtrum(who, lips)
    eye_x = who.eye_gap + 0.5 * who.eye_width
    relief, width, tip_y = who.nose_relief, who.nose_width, who.nose_y - 1.3 * who.nose_wing
    nose = 0.07 * _ridge(u, v, np.array([[0, who.eye_y + 0.02], [0, tip_y]]), 1.25 * who.nose_bridge)
    nose += 0.095 * _bump(u, v, 0, tip_y, 0.62 * width, 0.10)
    nose += 0.045 * _bump(side, v, 0.78 * width, who.nose_y - who.nose_wing, 0.30 * width, 0.055)
    face = 0.05 * _bump(side, v, 0.42, 0.30, 0.22, 0.20) * (1 + 0.5 * view.smile)
    face -= 0.055 * _bump(side, v, eye_x, who.eye_y - 0.02, 0.24, 0.13)
    face += 0.03 * _bump(side, v, eye_x, who.eye_y - 0.24, 0.30, 0.09)
    face += 0.045 * _bump(u, v, 0, 0.90 * who.chin_y, 0.17, 0.10)
    lip_y, bottom_y = lips.dip[1], lips.lower_outer[:, 1].max()
    face += 0.030 * _bump(u, v, 0, bottom_y - 0.5 * who.lower_lip, 0.75 * who.mouth_width, 0.55 * who.lower_lip)
    face += 0.020 * _bump(u, v, 0, lip_y + 0.4 * who.upper_lip, 0.75 * who.mouth_width, 0.6 * who.upper_lip)
    face -= 0.022 * _bump(u, v, 0, bottom_y + 0.05, 0.16, 0.045)
    face += who.philtrum_relief * 0.022 * _ridge(side, v, ridge, 0.022)
    return relief * nose + face


def _lambert(height: np.ndarray, view: View, unit: float) -> np.ndarray:
    """Brightness relative to a surface that faces the camera; ``unit`` is the length of a face unit in pixels."""
    slope_y, slope_x = np.gradient(height * unit)
    lamp = np.array([0.9 * view.light_x, 0.9 * view.light_y, 1.0])
    lamp /= np.linalg.norm(lamp)
    facing = (lamp[2] - slope_x * lamp[0] - slope_y * lamp[1]) / np.sqrt(1 + slope_x**2 + slope_y**2)
    shade = 1 + (0.25 + 0.55 * view.light_strength) * (facing - lamp[2])
    return np.clip(shade, 0.40, 1.30)


def _hair_shadow(hair: Points, view: View, size: int) -> np.ndarray:
    """How deep each point lies in the shadow of the hair, 0 to 1."""
    shift = view.scale * np.array([-0.06 * view.light_x, 0.05 - 0.06 * view.light_y])
    shadow = np.zeros((size, size), np.uint8)
    fill_hard(shadow, hair + shift, 255)
    return cv2.GaussianBlur(shadow, (0, 0), 0.045 * view.scale * size) / np.float32(255)


def _coloured(shade: np.ndarray, view: View) -> np.ndarray:
    """Shadows turn warm (skin scatters red), lights take the colour of the lamp."""
    lamp = np.array([1 + 0.04 * view.light_warmth, 1.0, 1 - 0.06 * view.light_warmth], np.float32)
    warm = np.array([0.82, 1.0, 1.06], np.float32)
    return np.where(shade[..., None] < 1, shade[..., None] ** warm, shade[..., None]) * lamp


def _tints(who: Identity, view: View, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Colour factors of blush and of places with little light, (..., 3)."""
    side = np.abs(u)
    eye_x = who.eye_gap + 0.5 * who.eye_width
    red = 0.22 * who.blush * _bump(side, v, 0.46, 0.30, 0.20, 0.14)
    red += 0.08 * _bump(u, v, 0, who.nose_y - 0.07, 0.12, 0.08)
    dark = 0.16 * _bump(side, v, eye_x, who.eye_y - 0.03, 0.23, 0.13)
    dark += 0.16 * _bump(side, v, who.eye_gap - 0.03, who.eye_y - 0.02, 0.06, 0.10)
    lips = mouth(who, view)
    top, bottom = philtrum(who, lips)
    groove = np.array([[0, top[1]], [0, bottom[1]]])
    dark += 0.12 * who.philtrum_relief * _ridge(u, v, groove, 0.55 * bottom[0])
    dark -= 0.07 * who.philtrum_relief * _ridge(side, v, (top, bottom), 0.018)
    dark += 0.11 * _bump(u, v, 0, who.nose_y + 0.005, 0.8 * who.nose_width, 0.025)
    dark += 0.14 * _bump(u, v, 0, lips.lower_outer[:, 1].max() + 0.025, 0.15, 0.03)
    absorb = np.array([0.15, 1.0, 0.85], np.float32)
    return 1 - red[..., None] * absorb - dark[..., None] * np.array([0.8, 1.0, 1.0], np.float32)
