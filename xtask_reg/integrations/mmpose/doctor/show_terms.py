"""The facts about the losses as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from xtask_reg.integrations.mmpose.doctor.risks import alike
from xtask_reg.integrations.mmpose.doctor.tables import number, shape, table
from xtask_reg.integrations.mmpose.doctor.term_facts import LossFacts, Pull, StageFacts, TapFacts, TermFacts
from xtask_reg.weights.balanced import FIRST


def taps_table(losses: LossFacts) -> RenderableType | None:
    """What the terms read; None without terms."""
    rows = []
    for term in losses.terms:
        gradient = "yes" if term.student.has_gradient else "no"
        rows.append((term.name, "student", *_tap(term.student), gradient))
        if term.teacher is not None:
            rows.append((term.name, "teacher", *_tap(term.teacher), ""))
    return table(["term", "of", "tap", "shape", "dtype", "gradient"], [], rows) if rows else None


def _tap(tap: TapFacts) -> tuple[str, str, str]:
    read = f"{tap.parameters:,} parameters" if tap.shape is None else shape(tap.shape)
    return tap.path or "everything", read, tap.dtype


def losses_table(losses: LossFacts) -> RenderableType:
    """The losses and their sum, with notes on weights that are not plain numbers."""
    if losses.error:
        return Text(f"the step fails: {losses.error}")
    total = losses.total
    rows = [(name, "", number(value), number(value), _share(value, total)) for name, value in losses.task.items()]
    for term in losses.terms:
        values = (number(term.value), number(term.weighted), _share(term.weighted, total))
        rows.append((term.name, term.weighting, *values))
    rows += [(name, "0", "left out", "", "") for name in losses.left_out]
    rows.append(("total", "", "", number(total), ""))
    printed = table(["loss"], ["weight", "unweighted", "weighted", "share"], rows)
    return Group(printed, *(Text(note) for note in map(_note, losses.terms) if note))


def _note(term: TermFacts) -> str | None:
    if term.balanced:
        gives = f"the weight {term.weight:.3g}" if term.weight else "no weight yet"
        return f"{term.name}: the gradients of this batch give {gives}; its weight is 0 in the first {FIRST} steps"
    if term.scheduled:
        return f"{term.name}: its weight changes during training; shown here is the largest, {term.weight:g}"
    return None


def gradients_table(losses: LossFacts, first_layer: str | None) -> RenderableType | None:
    """The terms' gradients beside the task's; None without terms."""
    if not losses.terms:
        return None
    rows = []
    for term in losses.terms:
        for place, pull in ((term.student.path or "everything", term.at_tap), (first_layer or "", term.at_first_layer)):
            rows.append((term.name, place, *_pull(pull)))
    notes = [
        f"{term.name}: student and teacher are nearly equal (relative difference {term.difference:.1e}), "
        "so its gradient is about 0 now; judge its weight later in training"
        for term in losses.terms
        if alike(term)
    ]
    return Group(table(["term", "at"], ["term", "task", "ratio", "cosine"], rows), *notes)


def stages_table(stages: Sequence[StageFacts]) -> RenderableType | None:
    """The similarity of student and teacher at the monitored stages; None without any."""
    rows = [(stage.student, number(stage.cosine), number(stage.cka)) for stage in stages]
    return table(["stage"], ["cosine", "CKA"], rows) if rows else None


def _share(value: float | None, total: float | None) -> str:
    return "-" if value is None or not total else f"{value / total:.1%}"


def _pull(pull: Pull) -> tuple[str, ...]:
    cosine = "-" if pull.cosine is None else f"{pull.cosine:+.2f}"
    return (number(pull.term), number(pull.task), number(pull.ratio), cosine)
