"""All outlines of one face in one view, placed in the image."""

from __future__ import annotations

from dataclasses import dataclass

from xtask_reg.data.synthetic import features, head
from xtask_reg.data.synthetic.curves import Points, mirrored
from xtask_reg.data.synthetic.features import Eye
from xtask_reg.data.synthetic.identity import HAIR_BACKS, Identity
from xtask_reg.data.synthetic.pose import Pose
from xtask_reg.data.synthetic.view import View


@dataclass(frozen=True)
class Anatomy:
    """Outlines as image fractions (0 = left/top border, 1 = right/bottom border); pairs are left then right."""

    clothes: Points
    neck: Points
    hair_back: list[Points]
    ears: list[Points]
    face: Points
    eyes: list[Eye]
    freckles: list[Points]
    nose: Points
    columella: Points
    nostrils: list[Points]
    nose_wings: list[Points]
    lips: Points
    upper_lip: Points
    lower_lip: Points
    mouth_interior: Points
    mouth_seam: Points
    teeth: Points
    hair_front: Points
    strands: list[Points]
    landmarks: Points


def anatomy(who: Identity, view: View) -> Anatomy:
    """The outlines of ``who`` in ``view``."""
    pose = Pose(view)
    lips = features.mouth(who, view)
    ears_hidden = HAIR_BACKS[who.hair_back] in ("bob", "long", "round")
    ear = head.ear(who)

    def both(right: Points, behind: float = 0.0) -> list[Points]:
        return [pose.head(mirrored(right), behind=behind), pose.head(right, behind=behind)]

    return Anatomy(
        clothes=pose.body(head.shoulders(who)),
        neck=pose.body(head.neck(who)),
        hair_back=[pose.head(outline, behind=0.25) for outline in head.hair_back(who)],
        ears=[] if ears_hidden else both(ear, behind=0.25),
        face=pose.head(head.face_outline(who, view)),
        eyes=[_placed(features.left_eye(who, view), pose), _placed(features.right_eye(who, view), pose)],
        freckles=[pose.head(spot) for spot in head.freckles(who)],
        nose=pose.head(features.nose_outline(who)),
        columella=pose.head(features.columella(who)),
        nostrils=both(features.nostril(who)),
        nose_wings=both(features.nose_wing(who)),
        lips=pose.head(lips.lips),
        upper_lip=pose.head(lips.upper),
        lower_lip=pose.head(lips.lower),
        mouth_interior=pose.head(lips.interior),
        mouth_seam=pose.head(lips.seam),
        teeth=pose.head(lips.teeth),
        hair_front=pose.head(head.hair_front(who)),
        strands=[pose.head(line) for line in head.strands(who)],
        landmarks=pose.head(features.landmarks(who, view)),
    )


def _placed(eye: Eye, pose: Pose) -> Eye:
    return Eye(
        upper=pose.head(eye.upper),
        lower=pose.head(eye.lower),
        crease=pose.head(eye.crease),
        brow=pose.head(eye.brow),
        iris=pose.head(eye.iris),
        iris_radius=eye.iris_radius * pose.scale,
    )
