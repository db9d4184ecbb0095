"""Eyes, brows, nose, mouth: outlines in face units, and the landmarks on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtask_reg.data.synthetic.curves import Points, hermite, mirrored, spline, stroke, taper
from xtask_reg.data.synthetic.identity import Identity
from xtask_reg.data.synthetic.view import View


@dataclass(frozen=True)
class Eye:
    """One eye; ``upper`` and ``lower`` lids run from the left corner to the right corner."""

    upper: Points
    lower: Points
    crease: Points
    brow: Points
    iris: Points
    iris_radius: float

    @property
    def opening(self) -> Points:
        """Closed outline of what is seen between the lids."""
        return np.concatenate([self.upper, self.lower[::-1]])


@dataclass(frozen=True)
class Mouth:
    """The four lip contours, each from the left mouth corner to the right one, from top to bottom."""

    upper_outer: Points
    upper_inner: Points
    lower_inner: Points
    lower_outer: Points
    peak: Points
    dip: Points

    @property
    def lips(self) -> Points:
        """Closed outline of both lips and what is between them."""
        return np.concatenate([self.upper_outer, self.lower_outer[::-1]])

    @property
    def upper(self) -> Points:
        """Closed outline of the upper lip."""
        return np.concatenate([self.upper_outer, self.upper_inner[::-1]])

    @property
    def lower(self) -> Points:
        """Closed outline of the lower lip."""
        return np.concatenate([self.lower_inner, self.lower_outer[::-1]])

    @property
    def interior(self) -> Points:
        """Closed outline of the open inside; flat while the mouth is shut."""
        return np.concatenate([self.upper_inner, self.lower_inner[::-1]])

    @property
    def seam(self) -> Points:
        """Closed outline of the dark line below the upper lip."""
        return stroke(self.upper_inner, 0.014 * taper(len(self.upper_inner), power=0.5))

    @property
    def teeth(self) -> Points:
        """Closed outline of the upper teeth, to be clipped to the interior."""
        return np.concatenate([self.upper_inner, (self.upper_inner + (0, 0.045))[::-1]])


def right_eye(who: Identity, view: View) -> Eye:
    """The eye on the right of the image; the left one is its mirror image, but for the gaze."""
    inner = np.array([who.eye_gap, who.eye_y])
    outer = inner + (who.eye_width, -who.eye_tilt)
    t = np.linspace(0, 1, 21)
    base = inner + t[:, None] * (outer - inner)
    rise = np.sin(np.pi * t ** (np.log(0.5) / np.log(who.lid_peak)))
    up = 0.62 * who.eye_height * view.eye_open
    down = 0.38 * who.eye_height * (1 - 0.15 * max(view.smile, 0))
    upper = base - np.stack([0 * t, up * rise**0.75], -1)
    lower = base + np.stack([0 * t, down * np.sin(np.pi * t**1.1) ** 0.75], -1)
    crease = base - np.stack([0 * t, 0.03 + (up + 0.018) * rise**0.7], -1)
    middle = base[10] + (0.0, 0.4 * (down - up) - 0.004)
    gaze = np.array([0.034 * view.gaze_x, 0.014 * view.gaze_y])
    return Eye(upper, lower, crease[1:], _right_brow(who, view), middle + gaze, who.iris_size)


def left_eye(who: Identity, view: View) -> Eye:
    """The eye on the left of the image, looking in the same direction as the right one."""
    eye = right_eye(who, view)
    gaze = np.array([0.068 * view.gaze_x, 0.0])
    return Eye(
        upper=mirrored(eye.upper),
        lower=mirrored(eye.lower),
        crease=mirrored(eye.crease),
        brow=mirrored(eye.brow),
        iris=eye.iris * (-1, 1) + gaze,
        iris_radius=eye.iris_radius,
    )


def _right_brow(who: Identity, view: View) -> Points:
    start = np.array([who.eye_gap - 0.035, who.eye_y - who.brow_height - 0.04 - view.brow_raise])
    length = who.eye_width + 0.10
    t = np.linspace(0, 1, 18)
    line = np.stack([start[0] + length * t, start[1] - who.brow_tilt * t], -1)
    line[:, 1] -= who.brow_arch * np.sin(np.pi * t**1.5)
    return stroke(line, who.brow_thickness * (0.25 + 0.75 * np.minimum(1, 6 * t)) * (1 - t**3) ** 0.8)


def nose_outline(who: Identity) -> Points:
    """Closed outline of the nose; its lowest point is the nose-bottom landmark (0, nose_y)."""
    width, wing = who.nose_width, who.nose_wing
    side = [
        (who.nose_bridge, who.eye_y - 0.02),
        (who.nose_bridge * 0.95, who.eye_y + 0.13),
        (width * 0.72, who.nose_y - 2.4 * wing),
        (width, who.nose_y - 1.2 * wing),
        (width * 0.90, who.nose_y - 0.35 * wing),
        (width * 0.60, who.nose_y - 0.30 * wing),
    ]
    base = hermite([0, width * 0.60], [who.nose_y, who.nose_y - 0.30 * wing], [0, -0.1])
    right = np.concatenate([spline(side), base[-2::-1]])
    return np.concatenate([right, mirrored(right)[1:]])


def columella(who: Identity) -> Points:
    """The fold below the nostrils as a stroke outline; the middle of its line is the nose-bottom landmark."""
    width = 0.5 * who.nose_width
    line = hermite([-width, 0, width], who.nose_y - 0.25 * who.nose_wing * np.array([1, 0, 1]), [0.3, 0, -0.3])
    return stroke(line, 0.018 * taper(len(line)))


def nostril(who: Identity) -> Points:
    """Closed outline of the nostril on the right of the image."""
    width, wing = who.nose_width, who.nose_wing
    y = who.nose_y - 0.45 * wing
    line = spline([(0.26 * width, y + 0.12 * wing), (0.48 * width, y - 0.12 * wing), (0.72 * width, y + 0.05 * wing)])
    return stroke(line, 0.62 * wing * taper(len(line), power=0.6))


def nose_wing(who: Identity) -> Points:
    """The curved fold around the nostril on the right of the image, as a stroke outline."""
    width, wing = who.nose_width, who.nose_wing
    knots = [(0.86, -1.9), (1.0, -1.2), (0.96, -0.55), (0.80, -0.22)]
    line = spline([(x * width, who.nose_y + y * wing) for x, y in knots])
    return stroke(line, 0.022 * taper(len(line)))


def mouth(who: Identity, view: View) -> Mouth:
    """The lips; a smile widens and lifts the corners, opening the mouth lowers the lower lip."""
    smile, gap = view.smile, view.mouth_open
    width = who.mouth_width * (1 + 0.20 * smile - 0.6 * gap)
    thin = 1 - 0.18 * max(smile, 0)
    dip_y = who.nose_y + who.philtrum_length * (1 - 0.08 * smile)
    seam_y = dip_y + who.upper_lip * thin
    corner_y = seam_y - 0.018 - 0.055 * smile + 0.15 * gap
    bow, bow_depth = who.bow_width * (1 + 0.12 * smile), who.bow_depth * thin
    x = [-width, -bow, 0, bow, width]
    side = (corner_y - dip_y + bow_depth) / (width - bow)
    outer_y = [corner_y, dip_y - bow_depth, dip_y, dip_y - bow_depth, corner_y]
    outer = hermite(x, outer_y, [-1.4 * side, 0, 0, 0, 1.4 * side])
    bulge = 0.012 * thin
    inner_y = [corner_y, seam_y - 0.3 * bulge, seam_y + bulge, seam_y - 0.3 * bulge, corner_y]
    inner_slope = 0.6 * (corner_y - seam_y) / width
    upper_inner = hermite(x, inner_y, [-inner_slope, 0, 0, 0, inner_slope])
    lowered = gap * (1 - (upper_inner[:, 0] / width) ** 2)
    lower_inner = upper_inner + np.stack([np.zeros_like(lowered), lowered], -1)
    bottom_y = seam_y + gap + who.lower_lip * thin
    drop = (bottom_y - corner_y) / width
    lower_outer = hermite([-width, 0, width], [corner_y, bottom_y, corner_y], [1.9 * drop, 0, -1.9 * drop], samples=16)
    return Mouth(outer, upper_inner, lower_inner, lower_outer, np.array([bow, dip_y - bow_depth]), np.array([0, dip_y]))


def philtrum(who: Identity, lips: Mouth) -> Points:
    """Ends of the philtral ridge on the right of the image: (2, 2), top then bottom."""
    bottom = lips.peak + (-0.06 * lips.peak[0], -0.030)
    top = np.array([bottom[0] * who.philtrum_taper, who.nose_y + 0.020])
    return np.stack([top, bottom])


def landmarks(who: Identity, view: View) -> Points:
    """The 14 landmarks in face units, (14, 2), in the order of ``LANDMARK_NAMES``."""
    left, right, lips = left_eye(who, view), right_eye(who, view), mouth(who, view)
    ridge = philtrum(who, lips)
    flip = np.array([-1.0, 1.0])
    return np.stack(
        [left.upper[0], left.upper[-1], right.upper[0], right.upper[-1], np.array([0.0, who.nose_y])]
        + [ridge[0] * flip, ridge[0], ridge[1] * flip, ridge[1]]
        + [lips.upper_outer[0], lips.upper_outer[-1], lips.peak * flip, lips.dip, lips.peak]
    )
