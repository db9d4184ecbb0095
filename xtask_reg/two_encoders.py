"""The stages of student and teacher, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from xtask_reg.connectors import ChannelsFirst
from xtask_reg.source_answers import Answers, answers
from xtask_reg.stages import called_with, check_corresponding, stage_shapes
from xtask_reg.submodules import find_module, paired_paths, unwrap


class TwoEncoders:
    """Where student and teacher are tapped. Each is called once, when that is first asked for."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        stages: Mapping[str, str] | Sequence[str] | None,
        images: Tensor | None,
    ) -> None:
        self.student = student
        self._teacher = teacher
        self._stages = None if stages is None else paired_paths(stages)
        self._images = images

    @property
    def teacher(self) -> nn.Module:
        """The source network."""
        if self._teacher is None:
            raise ValueError("the regularizer compares with a teacher: give one, FrozenTeacher(source)")
        return self._teacher

    @cached_property
    def own(self) -> dict[str, tuple[int, ...]]:
        """The student's stages, and the shapes of what they give."""
        return self._shapes(self.student, None if self._stages is None else list(self._stages))

    @cached_property
    def source(self) -> dict[str, tuple[int, ...]]:
        """The teacher's."""
        return self._shapes(self.teacher, None if self._stages is None else list(self._stages.values()))

    def paths(self) -> tuple[list[str], list[str]]:
        """The stages of student and teacher; neither is called for those that are given."""
        if self._stages is None:
            return list(self.own), list(self.source)
        return list(self._stages), list(self._stages.values())

    def _shapes(self, network: nn.Module, paths: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
        return stage_shapes(network, self._images) if paths is None else _shapes_at(network, paths, self._images)

    def pairs(self) -> list[dict[str, Any]]:
        """The arguments of a term at each stage; tokens are brought into the order of feature maps."""
        sides = zip(check_corresponding(self.own, self.source).items(), self.own.values(), self.source.values())
        return [
            {
                "student": student,
                "teacher": teacher,
                "student_connector": in_channel_order(own),
                "teacher_connector": in_channel_order(source),
            }
            for (student, teacher), own, source in sides
        ]

    def answers(self) -> Answers:
        """Where the teacher classifies, and what the student's last stage goes through to get its scores."""
        stage, shape = list(self.source.items())[-1]
        found = answers(self.teacher, stage, self._images)
        if found is None:
            name = type(self.teacher).__name__
            raise ValueError(
                f"how {name} comes from its last stage {stage!r} {shape} to class scores (B, classes) could not be "
                "followed (it has none, or does something on the way that is no module of its own): write the term "
                f"out, xr.Term(xr.SoftmaxL2Loss(temperature=2.0), student={list(self.own)[-1]!r}, teacher=<path of "
                f"what gives the scores>, student_connector=<a copy of what {name} puts between, "
                "xr.retained_classifier(...) if that is an average and one layer>, weight=0.002, name='cd')"
            )
        return found


def _shapes_at(network: nn.Module, paths: Sequence[str], images: Tensor | None) -> dict[str, tuple[int, ...]]:
    """What named modules give, by path."""
    network = unwrap(network)
    taps = {find_module(network, tap.path): tap for tap in called_with(network, images)[0]}
    shapes = {}
    for path in paths:
        tap = taps[find_module(network, path)]
        if tap.shape is None or tap.reason:
            raise ValueError(f"{path!r} of {type(network).__name__} cannot be tapped: {tap.reason}")
        shapes[path] = tap.shape
    return shapes


def in_channel_order(shape: tuple[int, ...]) -> nn.Module | None:
    """What brings tokens ``(B, N, C)`` into the order of feature maps; None for maps, which have it."""
    return ChannelsFirst() if len(shape) == 3 else None
