"""Who a face belongs to: everything that stays the same from picture to picture."""

from __future__ import annotations

from dataclasses import dataclass

from xtask_reg.data.synthetic.traits import choice, draw_traits, trait

SKIN_TONES = ((246, 213, 192), (238, 198, 168), (228, 182, 146), (206, 154, 116), (174, 120, 86), (134, 90, 65))
HAIR_COLOURS = ((38, 30, 32), (72, 47, 36), (121, 78, 47), (168, 74, 42), (222, 184, 116), (166, 164, 168))
IRIS_COLOURS = ((78, 52, 36), (120, 84, 46), (92, 122, 74), (78, 124, 168), (120, 134, 146))
HAIR_BACKS = ("none", "bob", "long", "bun", "round")
HAIRLINES = ("arch", "sweep_left", "sweep_right", "fringe", "curtain", "receding")


@dataclass(frozen=True)
class Identity:
    """The permanent traits of one person. ``Identity()`` is the average face.

    Lengths are in face units: x to the right and y downwards in the image, origin between the eyes, chin at about
    y = 1, top of the skull at about y = -1. Colours are few and shared, so that people differ by the shape of the face.
    """

    cheek_width: float = trait(0.67, 0.79)
    jaw_width: float = trait(0.47, 0.62)
    chin_width: float = trait(0.16, 0.30)
    chin_y: float = trait(0.95, 1.08)
    ear_size: float = trait(0.17, 0.23)

    eye_y: float = trait(-0.06, 0.04)
    eye_gap: float = trait(0.14, 0.205)
    eye_width: float = trait(0.27, 0.37)
    eye_height: float = trait(0.11, 0.18)
    eye_tilt: float = trait(-0.025, 0.05)
    lid_peak: float = trait(0.38, 0.60)
    iris_size: float = trait(0.070, 0.086)
    lash: float = trait(0.010, 0.024)

    brow_height: float = trait(0.11, 0.17)
    brow_thickness: float = trait(0.025, 0.060)
    brow_arch: float = trait(0.015, 0.070)
    brow_tilt: float = trait(-0.06, 0.03)

    nose_y: float = trait(0.33, 0.43)
    nose_width: float = trait(0.115, 0.195)
    nose_bridge: float = trait(0.040, 0.070)
    nose_wing: float = trait(0.040, 0.065)
    nose_relief: float = trait(0.7, 1.3)

    philtrum_length: float = trait(0.140, 0.200)
    philtrum_taper: float = trait(0.55, 0.90)
    philtrum_relief: float = trait(0.5, 1.4)

    mouth_width: float = trait(0.20, 0.29)
    upper_lip: float = trait(0.040, 0.085)
    lower_lip: float = trait(0.060, 0.110)
    bow_width: float = trait(0.045, 0.085)
    bow_depth: float = trait(0.010, 0.035)
    lip_redness: float = trait(0.25, 0.75)

    hair_volume: float = trait(0.03, 0.11)
    hair_height: float = trait(-0.05, 0.06)
    freckles: float = trait(0.0, 1.0, default=0.0)
    blush: float = trait(0.2, 0.9)
    skin: int = choice(len(SKIN_TONES))
    hair: int = choice(len(HAIR_COLOURS))
    iris: int = choice(len(IRIS_COLOURS))
    hair_back: int = choice(len(HAIR_BACKS))
    hairline: int = choice(len(HAIRLINES))

    @classmethod
    def from_seed(cls, seed: int) -> Identity:
        """The person with this number: the same seed always gives the same person.

        Raises:
            ValueError: ``seed`` is negative.
        """
        return draw_traits(cls, (1, seed))
