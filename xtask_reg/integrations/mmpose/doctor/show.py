"""An examination as text and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from xtask_reg.inputs import InputConvention
from xtask_reg.integrations.mmpose.doctor.facts import (
    DataFacts,
    Examination,
    LossFacts,
    ParameterFacts,
    Pull,
    Risk,
    RunFacts,
    TeacherFacts,
)
from xtask_reg.integrations.mmpose.doctor.risks import alike
from xtask_reg.integrations.mmpose.doctor.source import REPEATS


def to_json(examination: Examination) -> str:
    """The facts as one JSON object; numbers that are not finite become strings."""
    return json.dumps(_strict(dataclasses.asdict(examination)), indent=1, allow_nan=False)


def show(examination: Examination, console: Console) -> None:
    """Print the facts and the risks."""
    facts = examination.facts
    sections = {
        "Data": _data(facts.data),
        "Parameters": _parameters(facts.parameters, facts.run),
        "Taps": _taps(facts.losses),
        "Losses": _losses(facts.losses),
        "Gradients, weighted": _gradients(facts.losses, facts.parameters.first_layer),
        "Teacher": _teacher(facts.teacher),
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


def _table(words: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first columns are ``words``, and the others ``numbers``."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in words:
        table.add_column(title, overflow="fold")
    for title in numbers:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _pairs(rows: Iterable[Sequence[str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def _data(data: DataFacts) -> RenderableType:
    val = "no" if data.val_images is None else data.val_images
    annotated = "" if data.annotated is None else f", {data.annotated:.0%} of the batch's annotated"
    flips = "images are flipped" if data.flips else "no flips"
    return _pairs(
        [
            ("images", f"{data.train_images} to train, {val} to validate"),
            ("batch", f"{_shape(data.batch_shape)}, values {data.lowest:.3g} to {data.highest:.3g} when preprocessed"),
            ("landmarks", f"{data.landmarks or 'unknown'}{annotated}; {data.flip_pairs} flip pairs, {flips}"),
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
    if parameters.without_gradient:
        tolerated = " (find_unused_parameters is set)" if run.find_unused_parameters else ""
        notes.append(("no gradient", f"{len(parameters.without_gradient)} trainable tensors{tolerated}"))
    return Group(_table(["part"], ["trainable", "all"], rows), "", _pairs(notes))


def _taps(losses: LossFacts) -> RenderableType | None:
    rows = []
    for term in losses.terms:
        for whose, tap in (("student", term.student), ("teacher", term.teacher)):
            gradient = ("yes" if tap.has_gradient else "no") if whose == "student" else ""
            rows.append((term.name, whose, tap.path, _shape(tap.shape), tap.dtype, gradient))
    return _table(["term", "of", "tap", "shape", "dtype", "gradient"], [], rows) if rows else None


def _losses(losses: LossFacts) -> RenderableType:
    if losses.error:
        return Text(f"the step fails: {losses.error}")
    total = losses.total
    rows = [(name, "", _number(value), _number(value), _share(value, total)) for name, value in losses.task.items()]
    for term in losses.terms:
        values = (_number(term.value), _number(term.weighted), _share(term.weighted, total))
        rows.append((term.name, f"{term.weight:g}", *values))
    rows += [(name, "0", "left out", "", "") for name in losses.left_out]
    rows.append(("total", "", "", _number(total), ""))
    return _table(["loss"], ["weight", "unweighted", "weighted", "share"], rows)


def _gradients(losses: LossFacts, first_layer: str | None) -> RenderableType | None:
    if not losses.terms:
        return None
    rows = []
    for term in losses.terms:
        for place, pull in ((term.student.path, term.at_tap), (first_layer or "", term.at_first_layer)):
            rows.append((term.name, place, *_pull(pull)))
    notes = [
        f"{term.name}: student and teacher are alike ({term.difference:.1e} apart), so its gradient is about 0 now; "
        "judge its weight later in training"
        for term in losses.terms
        if alike(term)
    ]
    return Group(_table(["term", "at"], ["term", "task", "ratio", "cosine"], rows), *notes)


def _teacher(teacher: TeacherFacts | None) -> RenderableType:
    if teacher is None:
        return Text("none: no term has a weight")
    metadata = ", ".join(f"{key}={value}" for key, value in teacher.metadata.items())
    same = len(teacher.differing) == 0
    start = f"{teacher.in_common} tensors in common with the student, "
    start += "all alike at the start" if same else f"{len(teacher.differing)} of them differ at the start"
    share = "not measured" if teacher.share_of_step is None else f"{teacher.share_of_step:.0%} of a training step"
    return Group(
        _pairs(
            [
                ("weights", f"{teacher.origin} ({teacher.megabytes:.1f} MB in memory)"),
                ("metadata", metadata or "none"),
                ("student's input", _convention(teacher.student_input)),
                ("teacher's input", _convention(teacher.teacher_input) if teacher.converted else "the same, unchanged"),
                ("start", start),
                ("forward pass", share),
            ]
        ),
        "",
        Text(_checks(teacher.checks)),
    )


def _risks(risks: Sequence[Risk]) -> RenderableType:
    if not risks:
        return Text("none was found")
    return Group(*(Text(f"{risk.name}: {risk.message}\n  cure: {risk.cure}") for risk in risks))


def _checks(checks: dict[str, bool]) -> str:
    failed = ", ".join(check for check, held in checks.items() if not held)
    what = f"eval mode, no gradient, absent from state_dict and optimizer, unchanged by {REPEATS} steps"
    return f"teacher: {what}: {f'NO, not {failed}' if failed else 'yes'}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _share(value: float | None, total: float | None) -> str:
    return "-" if value is None or not total else f"{value / total:.1%}"


def _pull(pull: Pull) -> tuple[str, ...]:
    cosine = "-" if pull.cosine is None else f"{pull.cosine:+.2f}"
    return (_number(pull.term), _number(pull.task), _number(pull.ratio), cosine)


def _convention(convention: InputConvention) -> str:
    mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (convention.mean, convention.std))
    size = "" if convention.size is None else f", {_shape(convention.size)} pixels"
    return f"{convention.channels.upper()}, 0 to {convention.value_range:g}, mean {mean}, std {std}{size}"
