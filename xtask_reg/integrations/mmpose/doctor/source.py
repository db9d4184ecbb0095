"""The teacher of a run: where it comes from, what it costs, and whether it stays as it is."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmpose.doctor.facts import TeacherFacts
from xtask_reg.integrations.mmpose.doctor.start import Start, one_line_errors
from xtask_reg.integrations.mmpose.doctor.step import Step
from xtask_reg.integrations.mmpose.source import SourceTeacher
from xtask_reg.sources import load_metadata

REPEATS = 3


def differing_from_start(model: nn.Module, teacher: SourceTeacher) -> tuple[int, tuple[str, ...]]:
    """How many tensors the encoders of student and teacher have in common, and the names of those that differ."""
    own, others = model.backbone.state_dict(), teacher.network.backbone.state_dict()
    common = [name for name, value in own.items() if name in others and others[name].shape == value.shape]
    return len(common), tuple(name for name in common if not torch.equal(own[name], others[name]))


def teacher_facts(
    start: Start, teacher: SourceTeacher, step: Step, in_common: int, differing: tuple[str, ...]
) -> TeacherFacts:
    """The facts of a teacher; makes training steps if ``step`` could be made, so it must come last."""
    metadata = load_metadata(teacher.origin) if Path(teacher.origin).is_file() else {}
    adapter: Any = teacher.adapter
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    trains = step.error is None and all(watch.error is None for watch in step.watches.values())
    share = _share_of_step(start, teacher, step.inputs) if trains else None
    return TeacherFacts(
        origin=teacher.origin,
        metadata=metadata,
        student_input=teacher.student_input,
        teacher_input=adapter.teacher if adapter else teacher.student_input,
        stated_input=InputConvention.from_metadata(metadata),
        converted=bool(adapter) and not adapter.changes_nothing,
        share_of_step=share,
        megabytes=sum(tensor.numel() * tensor.element_size() for tensor in _tensors(teacher)) / 2**20,
        in_common=in_common,
        differing=differing,
        checks=_checks(start.runner, teacher, before),
    )


def _share_of_step(start: Start, teacher: SourceTeacher, images: Tensor) -> float:
    runner = start.runner
    seconds: dict[str, list[float]] = {"teacher": [], "step": []}
    for _ in range(REPEATS):
        begin = _now(images)
        with runner.optim_wrapper.optim_context(runner.model):
            teacher(images)
        middle = _now(images)
        with one_line_errors():
            runner.model.train_step(start.batch, runner.optim_wrapper)
        seconds["teacher"].append(middle - begin)
        seconds["step"].append(_now(images) - middle)
    return statistics.median(seconds["teacher"]) / statistics.median(seconds["step"])


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


def _tensors(teacher: SourceTeacher) -> list[Tensor]:
    return [*teacher.network.parameters(), *teacher.network.buffers()]
