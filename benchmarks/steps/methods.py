"""One training step by several methods: without a teacher, with it by hand, with this library and with others.

From a student and its sources, each makes a function of images and target heatmaps that returns the loss.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import xtask_reg as xr
from steps.names import BESIDE, FIRST, FLOOR, OFF, OURS, OURS_FIRST, PLAIN, TORCHDISTILL, WRAPPER
from steps.networks import Case, Detector
from xtask_reg.integrations.mmengine.source import SourceNetwork

WEIGHT = 0.002
Forward = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Parts:
    """What a method combines.

    Args:
        student: in training mode.
        sources: frozen, in eval mode.
        paths: of the stages, the same in student and source.
        terms: the stage and the loss of each term; each applies to every source.
    """

    student: Detector
    sources: Sequence[SourceNetwork]
    paths: Sequence[str]
    terms: Sequence[tuple[int, nn.Module]]


def parts(case: Case, seed: int = 0, terms: int = 1, teachers: int = 1) -> Parts:
    """Student and sources of a case, always the same for one seed.

    Args:
        case: the network.
        seed: of the weights.
        terms: 1 for L_ED at the last stage, 4 for L_ED at each stage, 8 for attention transfer in addition.
        teachers: the number of sources.
    """
    torch.manual_seed(seed)
    sources = [case.source().requires_grad_(False) for _ in range(teachers)]
    stages = range(len(case.paths))
    at_each: list[tuple[int, nn.Module]] = [(stage, xr.CosineAlignmentLoss()) for stage in reversed(stages)]
    at_each += [(stage, xr.AttentionTransferLoss()) for stage in stages]
    return Parts(case.student(sources[0]), sources, case.paths, at_each[:terms])


def task_loss(heatmaps: Tensor, target: Tensor) -> Tensor:
    """L_R of the paper."""
    return nn.functional.mse_loss(heatmaps.float(), target)


def fine_tuning(given: Parts) -> Forward:
    """FT, without a teacher: the sources are released."""
    student = given.student
    return lambda images, target: task_loss(student(images), target)


def by_hand(given: Parts, first: bool = False) -> Forward:
    """The floor: a bare forward pass of each source up to its last stage, and the losses; no hooks, no checks.

    Args:
        given: the networks.
        first: whether the sources run before the student.
    """

    @torch.no_grad()
    def bare(images: Tensor) -> list[Any]:
        return [source.backbone(images) for source in given.sources]

    def forward(images: Tensor, target: Tensor) -> Tensor:
        theirs = bare(images) if first else []
        own = given.student.backbone(images)
        loss = task_loss(given.student.head(own), target)
        for features in theirs or bare(images):
            for stage, criterion in given.terms:
                loss = loss + WEIGHT * criterion(own[stage], features[stage])
        return loss

    return forward


def regularizer(given: Parts, weight: float = WEIGHT, **options: Any) -> xr.CrossTaskRegularizer:
    """This library's terms; ``options`` are those of ``FrozenTeacher``."""
    teachers = {f"source{place}": xr.FrozenTeacher(source, **options) for place, source in enumerate(given.sources)}
    single = len(teachers) == 1
    terms = [
        xr.Term(
            criterion,
            student=given.paths[stage],
            teacher=given.paths[stage] if single else f"{teacher}.{given.paths[stage]}",
            weight=weight,
            name=f"{teacher}_{number}",
        )
        for teacher in teachers
        for number, (stage, criterion) in enumerate(given.terms)
    ]
    return xr.CrossTaskRegularizer(given.student, teachers["source0"] if single else teachers, terms)


def ours(given: Parts, weight: float = WEIGHT, **options: Any) -> Forward:
    """With :class:`xtask_reg.CrossTaskRegularizer`; ``options`` are those of ``FrozenTeacher``."""
    return kept(given, regularizer(given, weight, **options))


def kept(given: Parts, keep: xr.CrossTaskRegularizer) -> Forward:
    """With an existing regularizer."""

    def forward(images: Tensor, target: Tensor) -> Tensor:
        task = task_loss(given.student(images), target)
        return sum(keep().values(), task)

    return forward


def ours_first(given: Parts) -> Forward:
    """The same with the teacher before the student, which is faster on a CPU."""
    keep = regularizer(given)

    def forward(images: Tensor, target: Tensor) -> Tensor:
        with keep.recording(images):
            task = task_loss(given.student(images), target)
        return sum(keep().values(), task)

    return forward


def beside(given: Parts, **options: Any) -> Forward:
    """The sources on a separate CUDA stream, in parallel with the student, and the losses by hand.

    Args:
        given: the networks.
        **options: those of ``FrozenTeacher``.
    """
    teachers = [xr.FrozenTeacher(source, **options) for source in given.sources]
    taps = {given.paths[stage] for stage, _ in given.terms}
    stream = torch.cuda.Stream()

    def forward(images: Tensor, target: Tensor) -> Tensor:
        usual = torch.cuda.current_stream()
        stream.wait_stream(usual)
        with torch.cuda.stream(stream):
            theirs = [teacher.features(images, taps) for teacher in teachers]
        own = given.student.backbone(images)
        loss = task_loss(given.student.head(own), target)
        usual.wait_stream(stream)
        for features in theirs:
            for stage, criterion in given.terms:
                loss = loss + WEIGHT * criterion(own[stage], features[given.paths[stage]])
        return loss

    return forward


def through_torchdistill(given: Parts) -> Forward:
    """With torchdistill's forward hooks: both networks run to their end."""
    from torchdistill.core.forward_hook import ForwardHookManager

    device = next(given.student.parameters()).device
    hooks = {network: ForwardHookManager(device) for network in (given.student, *given.sources)}
    for network, manager in hooks.items():
        for path in {given.paths[stage] for stage, _ in given.terms}:
            manager.add_hook(network, path, requires_input=False, requires_output=True)

    def forward(images: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            for source in given.sources:
                source(images)
        loss = task_loss(given.student(images), target)
        own = hooks[given.student].pop_io_dict()
        for source in given.sources:
            theirs = hooks[source].pop_io_dict()
            for stage, criterion in given.terms:
                path = given.paths[stage]
                loss = loss + WEIGHT * criterion(own[path]["output"], theirs[path]["output"])
        return loss

    return forward


class Wrapper(nn.Module):
    """Student and source as children of one model, the source run to its end, as in MMPose's ``DWPoseDistiller``."""

    def __init__(self, given: Parts) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(given.sources)
        self.student = given.student
        self.terms = given.terms

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        theirs = []
        with torch.no_grad():
            for teacher in self.teachers:
                features = teacher.backbone(images)
                teacher.classifier(features[-1])
                theirs.append(features)
        own = self.student.backbone(images)
        loss = task_loss(self.student.head(own), target)
        for features in theirs:
            for stage, criterion in self.terms:
                loss = loss + WEIGHT * criterion(own[stage], features[stage])
        return loss


METHODS: dict[str, Callable[[Parts], Forward]] = {
    PLAIN: fine_tuning,
    FLOOR: by_hand,
    FIRST: partial(by_hand, first=True),
    OURS: ours,
    OURS_FIRST: ours_first,
    OFF: partial(ours, weight=0.0),
    WRAPPER: Wrapper,
}
if importlib.util.find_spec("torchdistill"):
    METHODS[TORCHDISTILL] = through_torchdistill
if torch.cuda.is_available():
    METHODS[BESIDE] = beside
OPTIONS: dict[str, dict[str, Any]] = {
    "teacher in bfloat16": {"dtype": torch.bfloat16},
    "teacher in float16": {"dtype": torch.float16},
    "teacher channels_last": {"channels_last": True},
    "teacher in bfloat16, channels_last": {"dtype": torch.bfloat16, "channels_last": True},
    "teacher compiled": {"compile": True},
    "teacher as a CUDA graph": {"compile": "reduce-overhead"},
    "teacher in bfloat16, compiled": {"dtype": torch.bfloat16, "compile": True},
    "teacher in bfloat16, channels_last, as a CUDA graph": {
        **{"dtype": torch.bfloat16, "channels_last": True, "compile": "reduce-overhead"}
    },
}
"""The options of ``FrozenTeacher`` that are compared with the floor."""
ON_A_GPU = tuple(name for name in OPTIONS if "float16" in name.split() or "CUDA" in name)
"""Those that a CPU does not support, or only slowly."""


def step(
    method: Callable[[Parts], Forward], given: Parts, precision: torch.dtype
) -> Callable[[Tensor, Tensor], Tensor]:
    """A whole training step with Adam, under autocast to ``precision`` unless that is float32; returns the loss."""
    forward = method(given)
    optimizer = torch.optim.Adam(given.student.parameters(), lr=1e-4)
    device = next(given.student.parameters()).device.type

    def run(images: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(device, precision, enabled=precision != torch.float32):
            loss = forward(images, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run
