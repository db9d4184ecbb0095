"""The stages of student and teacher, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from xtask_reg.class_scores import ClassScores, class_scores
from xtask_reg.connectors import ChannelsFirst, ChannelsLast
from xtask_reg.first_call import Call, black_images, called_with, first_call
from xtask_reg.kinds import check_kind
from xtask_reg.map_layout import last_width, with_channels_last
from xtask_reg.stages import stage_shapes
from xtask_reg.submodules import find_module, paired_paths, unwrap
from xtask_reg.teacher import FrozenTeacher


@dataclass(frozen=True)
class Stage:
    """The shape of a stage's output, and whether its channels are in the last dimension."""

    shape: tuple[int, ...]
    channels_last: bool

    def connector(self) -> nn.Module | None:
        """Moves the channels to dimension 1, where losses expect them; None if they are there."""
        return ChannelsFirst() if self.channels_last else None

    def monitored(self) -> nn.Module | None:
        """Converts maps to ``(B, C, *spatial)``, tokens and signals to ``(B, N, C)``; None if they are so already."""
        if len(self.shape) != 3:
            return self.connector()
        return None if self.channels_last else ChannelsLast()


class TwoEncoders:
    """The stages at which student and teacher are tapped. Each network is called once, when that is first needed."""

    def __init__(
        self,
        student: nn.Module,
        teacher: FrozenTeacher | nn.Module | None,
        stages: Mapping[str, str] | Sequence[str] | None,
        images: Tensor | None,
    ) -> None:
        check_student(student)
        self.student = student
        self._teacher, self._adapter = teacher, None
        if isinstance(teacher, FrozenTeacher):
            self._teacher, self._adapter = teacher.network, teacher.adapter
        self._stages = None if stages is None else paired_paths(stages)
        self._images = images

    @property
    def teacher(self) -> nn.Module:
        """The source network."""
        if self._teacher is None:
            raise ValueError("the regularizer compares with a teacher: give one, FrozenTeacher(source)")
        return self._teacher

    @cached_property
    def student_stages(self) -> dict[str, Stage]:
        """The student's stages, by path."""
        return _stages(self.student, self._student_call, None if self._stages is None else list(self._stages))

    @cached_property
    def teacher_stages(self) -> dict[str, Stage]:
        """The teacher's stages, by path."""
        return _stages(self.teacher, self._teacher_call, None if self._stages is None else list(self._stages.values()))

    @cached_property
    def _student_call(self) -> Call:
        return called_with(self.student, self._images)

    @cached_property
    def _teacher_call(self) -> Call:
        """The call of the teacher, with the student's images after its adapter."""
        black = black_images(self.teacher, channels=self._student_call.images.shape[1])
        try:
            return first_call(self.teacher, black if self._images is None else [self._images], self._adapter)
        except ValueError as error:
            if self._adapter is not None:
                raise
            advice = "or convert the student's images for it, FrozenTeacher(source, adapter)"
            raise ValueError(f"{error}, {advice}") from error

    def paths(self) -> tuple[list[str], list[str]]:
        """The stages of student and teacher; if they are given, neither network is called."""
        if self._stages is None:
            return list(self.student_stages), list(self.teacher_stages)
        return list(self._stages), list(self._stages.values())

    def corresponding(self) -> dict[str, str]:
        """The teacher's stages by the student's.

        Raises:
            ValueError: if one has more than the other.
        """
        own, source = self.paths()
        if len(own) != len(source):
            raise ValueError(
                f"the student has the stages {own}, the teacher {source}: their numbers differ, so they cannot "
                "be paired in order; name the pairs, stages={student's: source's}"
            )
        return dict(zip(own, source))

    def pairs(self) -> list[dict[str, Any]]:
        """The arguments of a term at each stage; channels are moved to dimension 1."""
        return [self._pair(*paths) for paths in self.corresponding().items()]

    def monitored(self) -> list[dict[str, Any]]:
        """The same for the monitor, which accepts ``(B, N, C)``."""
        return [self._pair(*paths, Stage.monitored) for paths in self.corresponding().items()]

    def last_pair(self) -> dict[str, Any]:
        """The arguments of a term at the last stages; the networks may have different numbers of stages."""
        return self._pair(list(self.student_stages)[-1], list(self.teacher_stages)[-1])

    def _pair(
        self, student: str, teacher: str, connector: Callable[[Stage], nn.Module | None] = Stage.connector
    ) -> dict[str, Any]:
        return {
            "student": student,
            "teacher": teacher,
            "student_connector": connector(self.student_stages[student]),
            "teacher_connector": connector(self.teacher_stages[teacher]),
        }

    def class_scores(self) -> ClassScores | None:
        """The arguments of a term on the teacher's class scores; None if the path to them could not be traced.

        Where only one network has its channels last, the student's are first brought into the teacher's order.
        """
        path, source = list(self.teacher_stages.items())[-1]
        found, own = class_scores(self.teacher, path, self._teacher_call.images), list(self.student_stages.values())[-1]
        if found is None or own.channels_last == source.channels_last or len(own.shape) != len(source.shape):
            return found
        turned = ChannelsFirst() if own.channels_last else ChannelsLast()
        steps = found.student_connector
        return replace(
            found, student_connector=nn.Sequential(turned, *(steps if isinstance(steps, nn.Sequential) else [steps]))
        )


def check_student(student: object) -> None:
    """Raise ``TypeError`` unless it is a network that can be trained."""
    expected = "the network that is trained, an nn.Module; it comes before the teacher"
    check_kind(student, nn.Module, "the student", expected)
    if isinstance(student, FrozenTeacher):
        raise TypeError(f"the student is a FrozenTeacher; expected {expected}")


def _stages(network: nn.Module, call: Call, paths: Sequence[str] | None) -> dict[str, Stage]:
    """The stages at the given paths, or those that are found."""
    network = unwrap(network)
    shapes = stage_shapes(network, call) if paths is None else _shapes(network, call, paths)
    maps = {find_module(network, path) for path in with_channels_last(call)}
    stages = {}
    for path, shape in shapes.items():
        module = find_module(network, path)
        stages[path] = Stage(shape, module in maps or _are_tokens(module, shape, call.images))
    return stages


def _are_tokens(module: nn.Module, shape: tuple[int, ...], images: Tensor) -> bool:
    """Whether the shape is ``(B, N, C)``; it may be ``(B, C, L)`` of a signal, and then the last layer decides."""
    return len(shape) == 3 and (images.ndim != 3 or last_width(module) == shape[-1])


def _shapes(network: nn.Module, call: Call, paths: Sequence[str]) -> dict[str, tuple[int, ...]]:
    taps = {find_module(network, tap.path): tap for tap in call.taps}
    shapes = {}
    for path in paths:
        tap = taps[find_module(network, path)]
        if tap.shape is None or tap.reason:
            raise ValueError(f"{path!r} of {type(network).__name__} cannot be tapped: {tap.reason}")
        shapes[path] = tap.shape
    return shapes
