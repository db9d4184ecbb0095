"""The facts about the teachers of a run: where each comes from, what it costs, and whether it stays unchanged."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmengine.source import SourceTeacher
from xtask_reg.integrations.mmpose.doctor.facts import TeacherFacts
from xtask_reg.integrations.mmpose.doctor.start import Start
from xtask_reg.integrations.mmpose.doctor.step import Step
from xtask_reg.integrations.mmpose.errors import one_line_errors
from xtask_reg.regularizer import CrossTaskRegularizer
from xtask_reg.sources import load_metadata
from xtask_reg.teachers import FrozenTeachers

REPEATS = 3
ALONE = "teacher"


def teachers_of(regularizer: CrossTaskRegularizer | None) -> dict[str, SourceTeacher]:
    """The teachers by name; a single one is called ``'teacher'``."""
    teacher: Any = None if regularizer is None else regularizer.teacher
    if isinstance(teacher, FrozenTeachers):
        return dict(teacher.teachers.items())  # type: ignore[arg-type]  # configs build SourceTeachers
    return {} if teacher is None else {ALONE: teacher}


@contextmanager
def called(teachers: Mapping[str, SourceTeacher]) -> Iterator[set[str]]:
    """The names of the teachers that are called inside the block, a set that grows."""
    names: set[str] = set()
    handles = [
        teacher.network.register_forward_hook(lambda *call, name=name: names.add(name))
        for name, teacher in teachers.items()
    ]
    try:
        yield names
    finally:
        for handle in handles:
            handle.remove()


Beginning = tuple[int, tuple[str, ...]]
"""The number of tensors that the encoders of student and teacher have in common, and the names of those that differ."""


def beginning(model: nn.Module, teacher: SourceTeacher) -> Beginning:
    """Compare the encoders of student and teacher, by names, shapes and values of their tensors."""
    own, others = (network.get_submodule("backbone").state_dict() for network in (model, teacher.network))
    common = [name for name, value in own.items() if name in others and others[name].shape == value.shape]
    return len(common), tuple(name for name in common if not torch.equal(own[name], others[name]))


def teacher_facts(
    start: Start, teachers: Mapping[str, SourceTeacher], step: Step, beginnings: Mapping[str, Beginning], runs: set[str]
) -> dict[str, TeacherFacts]:
    """The facts about the teachers, by name. Call it last: unless ``step`` failed, it makes further training steps.

    Args:
        start: the run.
        teachers: by name.
        step: the examined step.
        beginnings: the results of :func:`beginning` before it.
        runs: the names of the teachers that were called in it.
    """
    before = {name: _copy(teacher) for name, teacher in teachers.items()}
    trains = step.error is None and all(watch.error is None for watch in step.watches.values())
    timed = {name: teacher for name, teacher in teachers.items() if name in runs}
    shares = _shares_of_step(start, timed, step) if teachers and trains else {}
    return {
        name: _facts(
            teacher,
            *beginnings[name],
            runs=name in runs,
            share_of_step=shares.get(name),
            checks=_checks(start.runner, teacher, before[name]),
        )
        for name, teacher in teachers.items()
    }


def _facts(teacher: SourceTeacher, in_common: int, differing: tuple[str, ...], **measured: Any) -> TeacherFacts:
    metadata = load_metadata(teacher.origin) if Path(teacher.origin).is_file() else {}
    adapter: Any = teacher.adapter
    return TeacherFacts(
        origin=teacher.origin,
        metadata=metadata,
        student_input=teacher.student_input,
        teacher_input=adapter.teacher if adapter else teacher.student_input,
        stated_input=InputConvention.from_metadata(metadata),
        converted=bool(adapter) and not adapter.changes_nothing,
        megabytes=sum(tensor.numel() * tensor.element_size() for tensor in _tensors(teacher)) / 2**20,
        in_common=in_common,
        differing=differing,
        **measured,
    )


def _shares_of_step(start: Start, teachers: Mapping[str, SourceTeacher], step: Step) -> dict[str, float]:
    runner, images = start.runner, step.inputs if step.unlabelled is None else step.unlabelled
    seconds: dict[str, list[float]] = {name: [] for name in teachers}
    steps = []
    for _ in range(REPEATS):
        for name, teacher in teachers.items():
            begin = _now(images)
            with runner.optim_wrapper.optim_context(runner.model):
                teacher(images)
            seconds[name].append(_now(images) - begin)
        begin = _now(images)
        with one_line_errors():
            if step.unlabelled is not None:
                runner.model.compare_on(step.unlabelled)
            runner.model.train_step(start.batch, runner.optim_wrapper)
        steps.append(_now(images) - begin)
    return {name: statistics.median(own) / statistics.median(steps) for name, own in seconds.items()}


def _now(images: Tensor) -> float:
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def _checks(runner: Runner, teacher: SourceTeacher, before: dict[str, Tensor]) -> dict[str, bool]:
    own = {tensor.data_ptr() for tensor in _tensors(teacher) if tensor.numel()}
    saved = {tensor.data_ptr() for tensor in runner.model.state_dict().values()}
    optimized = {p.data_ptr() for group in runner.optim_wrapper.optimizer.param_groups for p in group["params"]}
    parameters = list(teacher.network.parameters())
    after = teacher.network.state_dict()
    return {
        "eval mode": not any(module.training for module in teacher.network.modules()),
        "no gradient": all(not p.requires_grad and p.grad is None for p in parameters),
        "absent from state_dict": not own & saved,
        "absent from optimizer": not own & optimized,
        "unchanged": all(torch.equal(value, before[name]) for name, value in after.items()),
    }


def _copy(teacher: SourceTeacher) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in teacher.network.state_dict().items()}


def _tensors(teacher: SourceTeacher) -> list[Tensor]:
    return [*teacher.network.parameters(), *teacher.network.buffers()]
