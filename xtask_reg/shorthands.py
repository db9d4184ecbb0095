"""Whole regularizers by name, with taps that are found automatically."""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from xtask_reg import losses
from xtask_reg.kinds import check_kind
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.term import Term, Weight
from xtask_reg.two_encoders import TwoEncoders
from xtask_reg.weights.balanced import Balanced

UNSET = 0.0
"""A placeholder until :func:`shorthand` sets the weight."""


def _at_last(loss: Callable[[], nn.Module], networks: TwoEncoders, name: str) -> Iterator[Term]:
    yield Term(loss(), **networks.last_pair(), weight=UNSET, name=name)


def _at_each(loss: Callable[[], nn.Module], networks: TwoEncoders, name: str) -> Iterator[Term]:
    for number, pair in enumerate(networks.pairs(), start=1):
        yield Term(loss(), **pair, weight=UNSET, name=f"{name}{number}")


def _at_logits(loss: Callable[[], nn.Module], networks: TwoEncoders, name: str) -> Iterator[Term]:
    student = list(networks.student_stages)[-1]
    found = networks.class_scores()
    if found is None:
        raise ValueError(_not_followed(networks, type(loss()).__name__, student, name))
    yield Term(loss(), student=student, **vars(found), weight=UNSET, name=name)


def _not_followed(networks: TwoEncoders, loss: str, student: str, name: str) -> str:
    source, (path, stage) = type(networks.teacher).__name__, list(networks.teacher_stages.items())[-1]
    return (
        f"the way of {source} from its last stage {path!r} {stage.shape} to class scores (B, classes) could not be "
        "followed (there are none, or part of the way is not a module of its own): write the term out, "
        f"xr.Term(xr.{loss}(), student={student!r}, teacher=<path of what gives the scores>, student_connector=<a copy "
        f"of what {source} has between, xr.retained_classifier(...) if that is an average and one layer>, weight=..., "
        f"name={name!r})"
    )


def _of_student(loss: Callable[[], nn.Module], networks: TwoEncoders, name: str) -> Iterator[Term]:
    path, stage = list(networks.student_stages.items())[-1]
    yield Term(loss(), student=path, weight=UNSET, name=name, student_connector=stage.connector())


def _of_parameters(loss: Callable[[], nn.Module], networks: TwoEncoders, name: str) -> Iterator[Term]:
    student, teacher = map(_parent, networks.paths())
    yield Term(loss(), student=student, teacher=teacher, weight=UNSET, name=name)


def _parent(stages: Sequence[str]) -> str:
    """The path of the module that contains all stages; the parent of the stage if there is only one."""
    return posixpath.commonpath([path.replace(".", "/").rpartition("/")[0] for path in stages]).replace("/", ".")


NAMES: dict[str, tuple[partial[Iterator[Term]], float | None]] = {
    "ctd-cd": (partial(_at_logits, losses.SoftmaxL2Loss), 0.002),
    "ctd-ed": (partial(_at_last, losses.CosineAlignmentLoss), 0.002),
    "kd": (partial(_at_logits, losses.KDLoss), None),
    "lwf": (partial(_at_logits, losses.LwFLoss), 1.0),
    "hint": (partial(_at_last, losses.HintLoss), None),
    "at": (partial(_at_each, losses.AttentionTransferLoss), None),
    "spatial-attention": (partial(_at_last, losses.AttentionTransferLoss), 0.002),
    "channel-attention": (partial(_at_last, losses.ChannelAttentionLoss), 0.002),
    "cwd": (partial(_at_last, losses.ChannelWiseLoss), None),
    "pkd": (partial(_at_last, losses.PearsonLoss), None),
    "rkd-distance": (partial(_at_last, losses.RKDDistanceLoss), None),
    "rkd-angle": (partial(_at_last, losses.RKDAngleLoss), None),
    "gram": (partial(_at_last, losses.GramAnchoringLoss), None),
    "local-similarity": (partial(_at_last, losses.LocalSimilarityLoss), None),
    "radio": (partial(_at_last, losses.CosineSmoothL1Loss), None),
    "delta": (partial(_at_each, losses.DELTALoss), None),
    "l2-sp": (partial(_of_parameters, losses.L2SPPenalty), 0.1),
    "bss": (partial(_of_student, losses.BSSLoss), 0.001),
}
"""The terms of each name, and the weight that its paper states; None if that applies to another kind of loss."""
RATIO = 0.1
"""The default ratio of :class:`Balanced`, for names without a stated weight."""

SUMS = {
    "ctd-com": "ctd-cd + ctd-ed",
    "ctd-att": "ctd-com + spatial-attention + channel-attention",
    "rkd": "rkd-distance + rkd-angle",
}


def shorthand(
    student: nn.Module,
    teacher: FrozenTeacher | nn.Module | None,
    names: str,
    weight: Weight | None = None,
    prefix: str = "",
    stages: Mapping[str, str] | Sequence[str] | None = None,
    images: Tensor | None = None,
) -> list[Term]:
    """The terms of a named regularizer, or of several joined by ``+``, at taps found by :func:`find_stages`.

    ``"ctd-cd"``, ``"ctd-ed"`` and ``"ctd-com"`` are those of Fu et al. 2020; ``"ctd-att"`` adds the two attention
    constraints of Fu et al. 2021. Terms on features act at the last stage; ``"at"`` and ``"delta"`` act at every stage
    (``"delta"`` with equal channel weights; see :func:`delta_channel_weights`); ``"l2-sp"`` acts on the module that
    contains the stages, whether these were found or given.

    By default ``"ctd-…"``, ``"lwf"``, ``"l2-sp"`` and ``"bss"`` have the weights that their papers state (the
    attention constraints have that of the other two terms), and all others have ``Balanced(0.1)``.

    Args:
        student: the network to train.
        teacher: the source network, frozen or not; None if no term compares with a teacher, as for ``"bss"``.
        names: ``"ctd-ed"`` or ``"ctd-ed + l2-sp"``, for instance.
        weight: the weight of every term, instead of the default.
        prefix: what the names of the terms begin with.
        stages: the taps to use instead of those found, from shallow to deep: the teacher's paths by the student's, or a
            list if they are the same.
        images: what the student is called with to find the taps, ``(B, C, H, W)``; the teacher is called with what its
            adapter makes of them. By default black images, see :func:`find_stages`, with the student's number of
            channels for both.

    Raises:
        ValueError: for an unknown name; if no stages are found or given; if a given stage cannot be tapped; if terms at
            every stage find different numbers of stages in both networks; or if a term needs the source's class scores,
            and the way from its features to these cannot be followed.
        TypeError: for names that are not a string, stages that are one, or a network or images of the wrong kind.

    Example:
        >>> [term.student for term in shorthand(torchvision.models.resnet18(), torchvision.models.resnet18(), "ctd-ed")]
        ['layer4']
    """
    networks = TwoEncoders(student, teacher, stages, images)
    if stages is not None and not stages:
        raise ValueError("stages is empty: name at least one, or leave it out for those that are found")
    terms: list[Term] = []
    for name in _single(names):
        make, stated = NAMES[name]
        for term in make(networks, prefix + name.replace("-", "_")):
            term.set_weight(copy.deepcopy(weight) if weight is not None else stated or Balanced(RATIO))
            terms.append(term)
    return terms


def compares(names: str) -> bool:
    """Whether one of the regularizers compares with a teacher.

    Raises:
        ValueError: for an unknown name.
    """
    return any(NAMES[name][0].func is not _of_student for name in _single(names))


def _single(names: str) -> Iterator[str]:
    check_kind(names, str, "the argument names", "one string, the names joined by ' + ': 'ctd-ed + at'")
    for name in (part.strip().lower() for part in names.split("+")):
        if name in SUMS:
            yield from _single(SUMS[name])
        elif name in NAMES:
            yield name
        else:
            raise ValueError(f"there is no regularizer {name!r}; the names are {', '.join([*NAMES, *SUMS])}")
