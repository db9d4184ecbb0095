"""Whole regularizers by name, their taps found."""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from xtask_reg import losses
from xtask_reg.connectors import ChannelsFirst, PooledClassifier, retained_classifier
from xtask_reg.stages import called_with, check_corresponding, stage_shapes
from xtask_reg.taps import find_module, plain_path, unwrap
from xtask_reg.teacher import FrozenTeacher
from xtask_reg.term import Term, Weight
from xtask_reg.weights.balanced import Balanced


class _Networks:
    """Where student and teacher are tapped. Each is called once, when that is first asked for."""

    def __init__(
        self, student: nn.Module, teacher: nn.Module | None, stages: Mapping[str, str] | None, images: Tensor | None
    ) -> None:
        self.student = student
        self._teacher = teacher
        self._stages = stages
        self._images = images

    @property
    def teacher(self) -> nn.Module:
        """The source network."""
        if self._teacher is None:
            raise ValueError("this regularizer compares with a teacher: give one")
        return self._teacher

    @cached_property
    def own(self) -> dict[str, tuple[int, ...]]:
        """The student's stages, and the shapes of what they give."""
        return self._shapes(self.student, None if self._stages is None else list(self._stages))

    @cached_property
    def source(self) -> dict[str, tuple[int, ...]]:
        """The teacher's."""
        return self._shapes(self.teacher, None if self._stages is None else list(self._stages.values()))

    def _shapes(self, network: nn.Module, paths: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
        return stage_shapes(network, self._images) if paths is None else _shapes_at(network, paths, self._images)

    def pairs(self) -> list[dict[str, Any]]:
        """The arguments of a term at each stage; tokens are brought into the order of feature maps."""
        sides = zip(check_corresponding(self.own, self.source).items(), self.own.values(), self.source.values())
        return [
            {
                "student": student,
                "teacher": teacher,
                "student_connector": _connector(own),
                "teacher_connector": _connector(source),
            }
            for (student, teacher), own, source in sides
        ]

    def classifier(self) -> str:
        """The teacher's :class:`PooledClassifier`, or its last linear layer, if it takes the last stage's channels."""
        shape = list(self.source.values())[-1]
        for kind in (PooledClassifier, nn.Linear):
            found = [(path, each) for path, each in self.teacher.named_modules() if path and isinstance(each, kind)]
            if not found:
                continue
            path, module = found[-1]
            linear = module.fc if isinstance(module, PooledClassifier) else module
            assert isinstance(linear, (nn.Linear, nn.Conv2d))
            if len(shape) == 4 and linear.weight.shape[1] == shape[1]:
                return path
        raise ValueError(
            f"{type(self.teacher).__name__} has no classifier behind the average of its last stage {shape}: write the "
            "term out, with retained_classifier(...) of what it classifies by"
        )


def _shapes_at(network: nn.Module, paths: Sequence[str], images: Tensor | None) -> dict[str, tuple[int, ...]]:
    """What named modules give, by path."""
    taps = {tap.path: tap for tap in called_with(unwrap(network), images)[0]}
    shapes = {}
    for path in paths:
        find_module(network, path)
        tap = taps[plain_path(path)]
        if tap.shape is None or tap.reason:
            raise ValueError(f"{path!r} of {type(network).__name__} cannot be tapped: {tap.reason}")
        shapes[path] = tap.shape
    return shapes


def _connector(shape: tuple[int, ...]) -> nn.Module | None:
    return ChannelsFirst() if len(shape) == 3 else None


UNSET = 0.0
"""The weight of a term before it is given its own."""

Maker = Callable[[_Networks, str], Iterator[Term]]


def _at_last(loss: Callable[[], nn.Module], networks: _Networks, name: str) -> Iterator[Term]:
    yield Term(loss(), **networks.pairs()[-1], weight=UNSET, name=name)


def _at_each(loss: Callable[[], nn.Module], networks: _Networks, name: str) -> Iterator[Term]:
    for number, pair in enumerate(networks.pairs(), start=1):
        yield Term(loss(), **pair, weight=UNSET, name=f"{name}{number}")


def _at_logits(loss: Callable[[], nn.Module], networks: _Networks, name: str) -> Iterator[Term]:
    path = networks.classifier()
    connector = retained_classifier(networks.teacher.get_submodule(path))
    yield Term(
        loss(), student=list(networks.own)[-1], teacher=path, weight=UNSET, name=name, student_connector=connector
    )


def _of_student(loss: Callable[[], nn.Module], networks: _Networks, name: str) -> Iterator[Term]:
    stage, shape = list(networks.own.items())[-1]
    yield Term(loss(), student=stage, weight=UNSET, name=name, student_connector=_connector(shape))


def _of_parameters(loss: Callable[[], nn.Module], networks: _Networks, name: str) -> Iterator[Term]:
    student, teacher = (_parent(list(stages)) for stages in (networks.own, networks.source))
    yield Term(loss(), student=student, teacher=teacher, weight=UNSET, name=name)


def _parent(stages: Sequence[str]) -> str:
    """The module that has all stages within it."""
    return posixpath.commonpath([path.replace(".", "/") for path in stages]).replace("/", ".")


NAMES: dict[str, tuple[Maker, float | None]] = {
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
"""Each name's terms, and the weight that its source states; None where that was found beside another kind of loss."""
RATIO = 0.1
"""Of the balanced weight of the others."""

SUMS = {
    "ctd-com": "ctd-cd + ctd-ed",
    "ctd-att": "ctd-com + spatial-attention + channel-attention",
    "rkd": "rkd-distance + rkd-angle",
}


def shorthand(
    names: str,
    student: nn.Module,
    teacher: FrozenTeacher | nn.Module,
    weight: Weight | None = None,
    prefix: str = "",
    stages: Mapping[str, str] | None = None,
    images: Tensor | None = None,
) -> list[Term]:
    """The terms of a regularizer, or of several joined by ``+``, with taps found by :func:`find_stages`.

    ``"ctd-cd"``, ``"ctd-ed"`` and ``"ctd-com"`` are those of Fu et al. 2020, ``"ctd-att"`` adds the two attention
    constraints of Fu et al. 2021. Terms on features act at the last stage, ``"at"`` and ``"delta"`` at each stage
    (``"delta"`` with equal channel weights; see :func:`delta_channel_weights`), ``"l2-sp"`` on the
    module around the stages.
    ``"ctd-…"``, ``"lwf"``, ``"l2-sp"`` and ``"bss"`` have the weights that their sources state (the attention
    constraints that of the other two), the others ``Balanced(0.1)``.

    Args:
        names: ``"ctd-ed"`` or ``"ctd-ed + l2-sp"`` for instance.
        student: the network that is trained.
        teacher: the source, frozen or not.
        weight: of each term, in place of the default.
        prefix: what the names of the terms begin with.
        stages: the teacher's taps by the student's, from shallow to deep, in place of those found.
        images: what the networks are called with to find them, ``(B, C, H, W)``; see :func:`find_stages`.

    Raises:
        ValueError: for an unknown name, if no stages are found, or if one of those given cannot be tapped.

    Example:
        >>> [term.student for term in shorthand("ctd-ed", torchvision.models.resnet18(), torchvision.models.resnet18())]
        ['layer4']
    """
    networks = _Networks(student, teacher.network if isinstance(teacher, FrozenTeacher) else teacher, stages, images)
    terms: list[Term] = []
    for name in _single(names):
        make, stated = NAMES[name]
        for term in make(networks, prefix + name.replace("-", "_")):
            term.set_weight(copy.deepcopy(weight) if weight is not None else stated or Balanced(RATIO))
            terms.append(term)
    return terms


def _single(names: str) -> Iterator[str]:
    for name in (part.strip().lower() for part in names.split("+")):
        if name in SUMS:
            yield from _single(SUMS[name])
        elif name in NAMES:
            yield name
        else:
            raise ValueError(f"there is no regularizer {name!r}; the names are {', '.join([*NAMES, *SUMS])}")
