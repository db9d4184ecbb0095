"""The facts about the losses of the first batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from xtask_reg.integrations.mmpose.doctor.step import FIRST_LAYER, TASK, Step
from xtask_reg.integrations.mmpose.doctor.term_facts import LossFacts, Pull, StageFacts, TapFacts, TermFacts
from xtask_reg.integrations.mmpose.doctor.weighting import short
from xtask_reg.term import Read
from xtask_reg.weights import Balanced, Schedule


def loss_facts(terms: Any, step: Step) -> LossFacts:
    """The losses of a step; ``terms`` is the field of the config."""
    given = [] if isinstance(terms, str) else [term["name"] for term in terms or ()]
    values = {name: step.weighted(name) for name in step.losses}
    not_finite = [name for name, value in values.items() if not value.isfinite()]
    not_finite += sorted(set().union(*(found.not_finite for found in step.gradients.values())))
    total = float(sum(values.values()))
    return LossFacts(
        task={name: float(value) for name, value in values.items() if name not in step.watches},
        terms=() if step.error else tuple(_term_facts(name, step, total) for name in step.watches),
        left_out=tuple(name for name in given if name not in step.watches),
        total=None if step.error else total,
        not_finite=tuple(not_finite),
        error=step.error,
    )


def stage_facts(report: Mapping[str, float]) -> tuple[StageFacts, ...]:
    """The monitor's measurements of the stages."""
    paths = [key.partition("/")[2] for key in report if key.startswith("cka/")]
    return tuple(StageFacts(path, report.get(f"cosine/{path}"), report[f"cka/{path}"]) for path in paths)


def _term_facts(name: str, step: Step, total: float) -> TermFacts:
    watch, own, task = step.watches[name], step.gradients[name], step.gradients[TASK]
    term, balanced = watch.term, isinstance(watch.term.weighting, Balanced)
    assert watch.read is not None
    student, teacher = watch.read
    weighted = None if watch.error else float(step.weighted(name))
    return TermFacts(
        name=name,
        weight=step.weights[name],
        weighting=short(term.weighting),
        scheduled=isinstance(getattr(term.weighting, "ratio", term.weighting), Schedule),
        balanced=balanced,
        value=None if watch.error else float(step.losses[name]),
        weighted=weighted,
        share=None if weighted is None or not total else weighted / total,
        student=_tap_facts(term.student, student if term.reads_parameters else step.outputs[term.student]),
        teacher=None if term.teacher is None or teacher is None else _tap_facts(term.teacher, teacher),
        difference=_difference(watch.compared),
        apart=None if teacher is None or term.reads_parameters else _difference((student, teacher)),
        at_tap=_pull(own.places[name], task.places[name]),
        at_first_layer=_pull(own.places[FIRST_LAYER], task.places[FIRST_LAYER]),
        error=watch.error,
    )


def _tap_facts(path: str, read: Read) -> TapFacts:
    tensors = _tensors(read)
    return TapFacts(
        path=path,
        shape=tuple(read.shape) if isinstance(read, Tensor) else None,
        parameters=None if isinstance(read, Tensor) else sum(tensor.numel() for tensor in tensors),
        dtype=str(tensors[0].dtype).removeprefix("torch."),
        has_gradient=any(tensor.requires_grad for tensor in tensors),
    )


def _difference(compared: tuple[Read, ...]) -> float | None:
    if len(compared) != 2:
        return None
    pairs = list(zip(*map(_tensors, compared), strict=True))
    if any(student.shape != teacher.shape for student, teacher in pairs):
        return None
    apart = [(student.detach().float() - teacher.detach().float()).norm() for student, teacher in pairs]
    length = torch.stack([teacher.detach().float().norm() for _, teacher in pairs]).norm()
    return float(torch.stack(apart).norm() / length.clamp_min(torch.finfo(torch.float32).tiny))


def _tensors(read: Read) -> list[Tensor]:
    """What was read as a list of tensors, parameters in the order of their names."""
    return [read] if isinstance(read, Tensor) else [read[name] for name in sorted(read)]


def _pull(term: Tensor | None, task: Tensor | None) -> Pull:
    own, other = (None if gradient is None else float(gradient.norm()) for gradient in (term, task))
    if term is None or task is None or own is None or not other:
        return Pull(own, other, ratio=None, cosine=None)
    cosine = float((term / own * (task / other)).sum()) if own else None
    return Pull(own, other, ratio=own / other, cosine=cosine)
