"""Shows an examination as text or JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmpose.doctor.facts import (
    DataFacts,
    Examination,
    ParameterFacts,
    Risk,
    RunFacts,
    TeacherFacts,
)
from xtask_reg.integrations.mmpose.doctor.show_terms import gradients_table, losses_table, stages_table, taps_table
from xtask_reg.integrations.mmpose.doctor.source import ALONE, REPEATS
from xtask_reg.integrations.mmpose.doctor.tables import pairs, shape, table


def to_json(examination: Examination) -> str:
    """The facts as one JSON object; numbers that are not finite become strings."""
    return json.dumps(_strict(dataclasses.asdict(examination)), indent=1, allow_nan=False)


def show(examination: Examination, console: Console) -> None:
    """Print the facts and the risks."""
    facts = examination.facts
    sections = {
        "Data": _data(facts.data, facts.run),
        "Parameters": _parameters(facts.parameters, facts.run),
        "Taps": taps_table(facts.losses),
        "Losses": losses_table(facts.losses),
        "Gradients, weighted": gradients_table(facts.losses, facts.parameters.first_layer),
        "What is left of the source": stages_table(facts.stages),
        **_teachers(facts.teachers),
        f"Risks: {len(examination.risks)}": _risks(examination.risks),
    }
    console.print(f"{examination.config}: one batch on {facts.run.device}, seed {facts.run.seed}", highlight=False)
    for title, content in sections.items():
        if content is not None:
            console.print(Text(f"\n{title}", style="bold"))
            console.print(Padding(content, (0, 0, 0, 2), expand=False), highlight=False)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _data(data: DataFacts, run: RunFacts) -> RenderableType:
    val, test = ("no" if count is None else count for count in (data.val_images, data.test_images))
    annotated = "" if data.annotated is None else f", {data.annotated:.0%} of the batch's annotated"
    flips = "images are flipped" if data.flips else "no flips"
    unlabelled = f"the terms are compared on images of {run.unlabelled}, on which the task has no gradient"
    return pairs(
        [
            ("images", f"{data.train_images} to train, {val} to validate, {test} to test"),
            ("batch", f"{shape(data.batch_shape)}, values {data.lowest:.3g} to {data.highest:.3g} after preprocessing"),
            ("landmarks", f"{data.landmarks or 'unknown'}{annotated}; {data.flip_pairs} flip pairs, {flips}"),
            *([("unlabelled", unlabelled)] if run.unlabelled else []),
        ]
    )


def _parameters(parameters: ParameterFacts, run: RunFacts) -> RenderableType:
    parts = {**parameters.parts, "total": parameters.total}
    rows = [(name, f"{part.trainable:,}", f"{part.all:,}") for name, part in parts.items()]
    in_backbone = parameters.batch_statistics_in_backbone
    norms = f"{parameters.batch_statistics} of {parameters.batch_norms} take the batch's statistics"
    notes = [
        ("frozen", ", ".join(parameters.frozen) or "nothing"),
        ("batch norms", f"{norms} ({in_backbone} in the encoder)"),
    ]
    if run.thaws:
        thaws = ", ".join(f"{path} at {until:.0%} of the training" for path, until in run.thaws.items())
        notes.append(("thaws", f"{thaws}; examined in the state after that"))
    if parameters.without_gradient:
        tolerated = " (find_unused_parameters is set)" if run.find_unused_parameters else ""
        notes.append(("no gradient", f"{len(parameters.without_gradient)} trainable tensors{tolerated}"))
    return Group(table(["part"], ["trainable", "all"], rows), "", pairs(notes))


def _teachers(teachers: Mapping[str, TeacherFacts]) -> dict[str, RenderableType]:
    if not teachers:
        return {"Teacher": Text("none: no term needs one")}
    return {"Teacher" if name == ALONE else f"Teacher {name}": _teacher(facts) for name, facts in teachers.items()}


def _teacher(teacher: TeacherFacts) -> RenderableType:
    metadata = ", ".join(f"{key}={value}" for key, value in teacher.metadata.items())
    same = len(teacher.differing) == 0
    start = f"{teacher.in_common} tensors in common with the student, "
    start += "all equal at the start" if same else f"{len(teacher.differing)} of them differ at the start"
    share = "not measured" if teacher.share_of_step is None else f"{teacher.share_of_step:.0%} of a training step"
    return Group(
        pairs(
            [
                ("weights", f"{teacher.origin} ({teacher.megabytes:.1f} MB in memory)"),
                ("metadata", metadata or "none"),
                ("student's input", _convention(teacher.student_input)),
                ("teacher's input", _convention(teacher.teacher_input) if teacher.converted else "the same, unchanged"),
                ("start", start),
                ("forward pass", share if teacher.runs else "none: nothing reads its output"),
            ]
        ),
        "",
        Text(_checks(teacher.checks)),
    )


def _risks(risks: Sequence[Risk]) -> RenderableType:
    if not risks:
        return Text("none found")
    return Group(*(Text(f"{risk.name}: {risk.message}\n  cure: {risk.cure}") for risk in risks))


def _checks(checks: dict[str, bool]) -> str:
    failed = ", ".join(check for check, held in checks.items() if not held)
    what = f"eval mode, no gradient, absent from state_dict and optimizer, unchanged by {REPEATS} steps"
    return f"teacher: {what}: {f'NO, not {failed}' if failed else 'yes'}"


def _convention(convention: InputConvention) -> str:
    mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (convention.mean, convention.std))
    size = "" if convention.size is None else f", {shape(convention.size)} pixels"
    return f"{convention.channels.upper()}, 0 to {convention.value_range:g}, mean {mean}, std {std}{size}"
