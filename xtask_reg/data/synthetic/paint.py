"""The colours of a face: fills its outlines from back to front, without light and shade."""

from __future__ import annotations

import colorsys

import numpy as np

from xtask_reg.data.synthetic.anatomy import Anatomy
from xtask_reg.data.synthetic.canvas import Canvas
from xtask_reg.data.synthetic.curves import ellipse, stroke, taper
from xtask_reg.data.synthetic.features import Eye
from xtask_reg.data.synthetic.identity import HAIR_COLOURS, IRIS_COLOURS, SKIN_TONES, Identity
from xtask_reg.data.synthetic.view import View

Colour = np.ndarray


def paint(canvas: Canvas, who: Identity, view: View, parts: Anatomy) -> None:
    """Paint background, body, face and hair."""
    skin = np.array(SKIN_TONES[who.skin], float)
    hair = np.array(HAIR_COLOURS[who.hair], float)
    _background(canvas, view)
    canvas.fill(parts.clothes, hsv(view.clothes_hue, 0.45, view.clothes_value), 60)
    for outline in parts.hair_back:
        canvas.fill(outline, 0.80 * hair, 70)
    _neck(canvas, skin, view, parts)
    for outline in parts.ears:
        canvas.fill(outline, skin * (0.90, 0.80, 0.78), 90)
        canvas.fill(outline.mean(0) + 0.55 * (outline - outline.mean(0)), skin * (0.78, 0.64, 0.62), 90)
    canvas.fill(parts.face, skin)
    for outline in parts.freckles:
        canvas.fill(outline, skin * (0.84, 0.70, 0.62))
    canvas.fill(parts.columella, skin * (0.78, 0.64, 0.62))
    for wing, nostril in zip(parts.nose_wings, parts.nostrils, strict=True):
        canvas.fill(wing, skin * (0.82, 0.70, 0.68))
        canvas.fill(nostril, skin * (0.46, 0.32, 0.31))
    _mouth(canvas, who, skin, parts)
    for eye in parts.eyes:
        _eye(canvas, who, view, skin, eye)
        canvas.fill(eye.brow, 0.75 * hair + 0.12 * skin)
    _hair_front(canvas, hair, parts)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour of 0 to 255 from hue, saturation and value in [0, 1]."""
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def mix(a: Colour, b: Colour | tuple[float, ...], weight: float) -> Colour:
    """``a`` with the share ``weight`` of ``b``."""
    return (1 - weight) * a + weight * np.asarray(b, float)


def _background(canvas: Canvas, view: View) -> None:
    rng = np.random.default_rng(view.background_pattern)
    colour = hsv(view.background_hue, 0.22, view.background_value)
    canvas.fill(np.array([(-0.1, -0.1), (1.1, -0.1), (1.1, 1.1), (-0.1, 1.1)]), colour, 0)
    for _ in range(rng.integers(2, 6)):
        hue = view.background_hue + rng.uniform(-0.08, 0.08)
        tone = hsv(hue, 0.28, min(view.background_value * rng.uniform(0.85, 1.08), 1))
        canvas.fill(ellipse(rng.uniform(-0.1, 1.1, 2), rng.uniform(0.08, 0.4, 2)), tone, 0)


def _neck(canvas: Canvas, skin: Colour, view: View, parts: Anatomy) -> None:
    with canvas.clipped(parts.neck) as neck:
        neck.fill(parts.neck, skin * (0.93, 0.88, 0.87), 110)
        shadow = parts.face + view.scale * np.array([-0.08 * view.light_x, 0.13 - 0.05 * view.light_y])
        neck.fill(shadow, skin * (0.76, 0.66, 0.64), 110)


def _mouth(canvas: Canvas, who: Identity, skin: Colour, parts: Anatomy) -> None:
    lip = mix(skin * (0.86, 0.62, 0.62), (186, 62, 76), who.lip_redness)
    canvas.fill(parts.lips, lip)
    canvas.fill(parts.upper_lip, 0.86 * lip)
    with canvas.clipped(parts.mouth_interior) as inside:
        inside.fill(parts.mouth_interior, (92, 30, 36), 160)
        inside.fill(parts.teeth, (240, 236, 228), 160)
    canvas.fill(parts.mouth_seam, 0.45 * lip)


def _eye(canvas: Canvas, who: Identity, view: View, skin: Colour, eye: Eye) -> None:
    unit, centre, radius = view.scale, eye.iris, eye.iris_radius
    iris = np.array(IRIS_COLOURS[who.iris], float)
    glint = centre + radius * np.array([0.35 * np.sign(view.light_x), -0.38])
    with canvas.clipped(eye.opening) as inside:
        inside.fill(eye.opening, (246, 243, 240), 130)
        inside.fill(ellipse(centre, radius), 0.55 * iris, 100)
        inside.fill(ellipse(centre, 0.86 * radius), iris, 100)
        inside.fill(ellipse(centre + (0, 0.3 * radius), 0.5 * radius), mix(iris, (255, 240, 210), 0.25), 100)
        inside.fill(ellipse(centre, 0.45 * radius), (18, 14, 16), 60)
        inside.fill(stroke(eye.upper, 0.07 * unit), mix(iris, (120, 110, 120), 0.7), 100)
        inside.fill(ellipse(glint, 0.22 * radius), (255, 255, 255), 0)
    width = unit * taper(len(eye.upper), power=0.4)
    canvas.fill(stroke(eye.crease, 0.016 * unit * taper(len(eye.crease))), skin * (0.70, 0.56, 0.54))
    canvas.fill(stroke(eye.lower, 0.009 * width), skin * (0.66, 0.50, 0.48))
    canvas.fill(stroke(eye.upper, (0.012 + who.lash) * width), (44, 30, 30), 120)


def _hair_front(canvas: Canvas, hair: Colour, parts: Anatomy) -> None:
    with canvas.clipped(parts.hair_front) as inside:
        inside.fill(parts.hair_front, hair, 150)
        for number, outline in enumerate(parts.strands):
            inside.fill(outline, mix(hair, (255, 246, 230), 0.14) if number % 2 else 0.86 * hair, 150)
