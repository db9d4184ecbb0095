"""How one picture of a person was taken: everything that changes from picture to picture."""

from __future__ import annotations

from dataclasses import dataclass

from xtask_reg.data.synthetic.traits import choice, draw_traits, trait


@dataclass(frozen=True)
class View:
    """Pose, expression, light, background and camera of one picture. ``View()`` is neutral: frontal, plain, noise-free.

    Angles are in radians, shifts and blur in image widths, noise in grey levels. ``light_x`` and ``light_y`` point to
    the light (y downwards); colours are given as hues in [0, 1).
    """

    yaw: float = trait(-0.34, 0.34, default=0.0)
    pitch: float = trait(-0.22, 0.22, default=0.0)
    roll: float = trait(-0.24, 0.24, default=0.0)
    scale: float = trait(0.335, 0.415, default=0.37)
    shift_x: float = trait(-0.05, 0.05, default=0.0)
    shift_y: float = trait(-0.045, 0.045, default=0.0)

    smile: float = trait(-0.1, 1.0, default=0.0)
    mouth_open: float = trait(0.0, 0.13, default=0.0, power=2.5)
    eye_open: float = trait(0.62, 1.12, default=1.0)
    brow_raise: float = trait(-0.02, 0.04, default=0.0)
    gaze_x: float = trait(-1.0, 1.0, default=0.0)
    gaze_y: float = trait(-1.0, 1.0, default=0.0)

    light_x: float = trait(-1.0, 1.0, default=-0.3)
    light_y: float = trait(-0.9, 0.2, default=-0.5)
    light_strength: float = trait(0.25, 1.0, default=0.5)
    light_warmth: float = trait(-1.0, 1.0, default=0.0)
    exposure: float = trait(0.78, 1.12, default=1.0)

    background_hue: float = trait(0.0, 1.0, default=0.58)
    background_value: float = trait(0.45, 0.95, default=0.9)
    background_pattern: int = choice(2**31)
    clothes_hue: float = trait(0.0, 1.0, default=0.6)
    clothes_value: float = trait(0.25, 0.9)

    blur: float = trait(0.0, 0.006, default=0.0, power=2.0)
    noise: float = trait(1.0, 11.0, default=0.0, power=2.0)
    noise_seed: int = choice(2**31)

    @classmethod
    def from_seed(cls, seed: int) -> View:
        """The view with this number: the same seed always gives the same view.

        Raises:
            ValueError: ``seed`` is negative.
        """
        return draw_traits(cls, (2, seed))
