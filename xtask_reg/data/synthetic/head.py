"""Face outline, ears, neck, shoulders and hair: outlines in face units."""

from __future__ import annotations

import numpy as np

from xtask_reg.data.synthetic.curves import Points, ellipse, mirrored, spline, stroke, taper
from xtask_reg.data.synthetic.identity import HAIR_BACKS, HAIRLINES, Identity
from xtask_reg.data.synthetic.view import View

_HAIRLINE_KNOTS = {  # x0, y0, x1, y1, ...: x relative to the temples, y in face units
    "arch": (-0.90, -0.38, -0.68, -0.56, 0, -0.64, 0.68, -0.56, 0.90, -0.38),
    "sweep_left": (-0.92, -0.30, -0.55, -0.40, 0.05, -0.56, 0.42, -0.72, 0.72, -0.56, 0.91, -0.36),
    "sweep_right": (-0.91, -0.36, -0.72, -0.56, -0.42, -0.72, -0.05, -0.56, 0.55, -0.40, 0.92, -0.30),
    "fringe": (-0.93, -0.30, -0.60, -0.37, -0.2, -0.34, 0.25, -0.36, 0.62, -0.35, 0.93, -0.30),
    "curtain": (-0.94, -0.25, -0.72, -0.42, -0.30, -0.60, 0, -0.78, 0.30, -0.60, 0.72, -0.42, 0.94, -0.25),
    "receding": (-0.92, -0.40, -0.66, -0.74, -0.25, -0.72, 0, -0.68, 0.25, -0.72, 0.66, -0.74, 0.92, -0.40),
}


def face_outline(who: Identity, view: View) -> Points:
    """Closed outline of the face, from the top of the skull over the chin."""
    chin = who.chin_y + 0.55 * view.mouth_open
    cheek = who.cheek_width
    right = [
        (0.45 * cheek, -0.90),
        (0.86 * cheek, -0.62),
        (0.98 * cheek, -0.25),
        (cheek, 0.08),
        (0.55 * cheek + 0.45 * who.jaw_width, 0.38),
        (who.jaw_width, 0.40 + 0.26 * chin),
        (0.5 * who.jaw_width + 0.5 * who.chin_width, 0.87 * chin),
        (who.chin_width, 0.975 * chin),
    ]
    left = [(-x, y) for x, y in reversed(right)]
    return spline([(0, -0.97), *right, (0, chin), *left], closed=True)


def ear(who: Identity) -> Points:
    """Closed outline of the ear on the right of the image."""
    size, x = who.ear_size, who.cheek_width - 0.02
    knots = [(0, -1.0), (0.42, -1.12), (0.72, -0.70), (0.60, 0.05), (0.36, 0.75), (0.05, 0.95), (-0.2, 0.2)]
    return spline([(x + size * u, 0.10 + size * v) for u, v in knots], closed=True)


def neck(who: Identity) -> Points:
    """Closed outline of the neck with the neckline of the clothes."""
    width = 0.62 * who.jaw_width
    right = [(width, 0.5), (width, 1.05), (width + 0.05, 1.25), (0.30, 1.48), (0, 1.56)]
    line = spline(right)
    return np.concatenate([line, mirrored(line)[1:]])


def shoulders(who: Identity) -> Points:
    """Closed outline of the clothes, down to well below the picture."""
    width = 0.62 * who.jaw_width
    line = spline([(width - 0.03, 1.20), (width + 0.22, 1.32), (1.0, 1.50), (1.25, 2.2), (1.3, 3.2)])
    return np.concatenate([line, mirrored(line)])


def hair_back(who: Identity) -> list[Points]:
    """Closed outlines of the hair behind the face."""
    out = who.cheek_width + who.hair_volume
    kind = HAIR_BACKS[who.hair_back]
    if kind == "bun":
        return [ellipse((0, -1.08 - who.hair_volume), (0.30, 0.27))]
    if kind == "round":
        angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        radius = 1.0 + 0.035 * np.cos(13 * angle)
        return [(0, -0.25) + radius[:, None] * np.stack([(out + 0.16) * np.sin(angle), 0.98 * np.cos(angle)], -1)]
    if kind in ("bob", "long"):
        low = 0.72 if kind == "bob" else 1.35
        side = [(out, -0.45), (out + 0.06, 0.1), (out + 0.05, 0.5 * low + 0.2), (out - 0.02, low), (0.30, low + 0.06)]
        line = spline([(0, -0.9), (0.6 * out, -0.8), *side])
        return [np.concatenate([line, mirrored(line)])]
    return []


def hair_front(who: Identity) -> Points:
    """Closed outline of the hair over the forehead: the cap above, the hairline below."""
    temple = 0.93 * who.cheek_width
    low = 0.02 if HAIR_BACKS[who.hair_back] in ("none", "bun") else 0.12
    outer = who.cheek_width + 0.75 * who.hair_volume
    top = -1.0 - who.hair_volume
    right = [(0.985 * who.cheek_width, low), (outer, -0.20), (0.97 * outer, -0.55), (0.68 * outer, top + 0.17)]
    left = [(-x, y) for x, y in reversed(right)]
    cap = spline([*right, (0.28 * outer, top + 0.015), (-0.28 * outer, top + 0.015), *left])
    side = np.array([(1.01 * temple, low - 0.13), (0.99 * temple, -0.17)])
    edge = np.concatenate([side * (-1, 1), _hairline(who), side[::-1]])
    return np.concatenate([cap, spline(edge)])


def _hairline(who: Identity) -> Points:
    knots = np.array(_HAIRLINE_KNOTS[HAIRLINES[who.hairline]]).reshape(-1, 2)
    return knots * (0.93 * who.cheek_width, 1.0) - (0.0, who.hair_height)


def strands(who: Identity) -> list[Points]:
    """Closed outlines of strands of hair, each from the crown down to the side."""
    out, top = who.cheek_width + 0.4 * who.hair_volume, -0.98 - 0.7 * who.hair_volume
    part = {"sweep_left": 0.32, "sweep_right": -0.32}.get(HAIRLINES[who.hairline], 0.0)
    outlines = []
    for end in np.linspace(-1, 1, 11):
        crown = [(part + 0.05 * end, top + 0.04), (part + 0.55 * (end - part), top + 0.16)]
        line = spline([*crown, (0.93 * end * out, -0.45), (0.98 * end * out, -0.15)])
        outlines.append(stroke(line, 0.05 * taper(len(line))))
    return outlines


def freckles(who: Identity) -> list[Points]:
    """Closed outlines of freckles over nose and cheeks; most people have none."""
    rng = np.random.default_rng(int(who.freckles * 1e6))
    centres = rng.uniform(-1, 1, (int(140 * max(who.freckles - 0.6, 0)), 2)) * (0.46, 0.10)
    return [ellipse((x, 0.24 + y - 0.3 * x * x), rng.uniform(0.006, 0.013), samples=8) for x, y in centres]
