"""The risks of a run, judged by its facts: one rule per function."""

from __future__ import annotations

from collections.abc import Iterator

from xtask_reg.inputs import InputAdapter
from xtask_reg.integrations.mmengine.source import RANDOM
from xtask_reg.integrations.mmpose.doctor.data_risks import data_risks
from xtask_reg.integrations.mmpose.doctor.facts import Facts, Risk, TeacherFacts
from xtask_reg.integrations.mmpose.doctor.network import CONNECTORS
from xtask_reg.integrations.mmpose.doctor.step import fits
from xtask_reg.integrations.mmpose.doctor.tables import some
from xtask_reg.integrations.mmpose.doctor.term_facts import TermFacts

SMALL, LARGE = 1e-4, 1.0
"""A term is considered useful if its gradient at its tap, relative to the task's, is between these."""
ALIKE = 1e-3
"""Relative difference below which the features of student and teacher count as the same."""


def find_risks(facts: Facts) -> Iterator[Risk]:
    """The risks of a run, the most serious kinds first."""
    yield from _step(facts)
    for term in facts.losses.terms:
        yield from _term(term)
    yield from _teachers(facts)
    yield from data_risks(facts)
    yield from _run(facts)


def alike(term: TermFacts) -> bool:
    """Whether the loss of a term is given (nearly) the same features of student and teacher."""
    return term.difference is not None and term.difference < ALIKE


def _step(facts: Facts) -> Iterator[Risk]:
    data, losses = facts.data, facts.losses
    if not fits(data.batch_shape[2:], data.encoder_stride):
        size = " x ".join(map(str, data.batch_shape[2:]))
        then = f", and the step fails: {losses.error}" if losses.error else ""
        yield Risk(
            "input-size",
            f"the input size {size} is not a multiple of the encoder's stride, {data.encoder_stride}{then}",
            "set input_size of TopdownAffine to multiples of it in all pipelines",
        )
    if losses.not_finite:
        yield Risk(
            "not-finite",
            f"not finite in the first step: {some(losses.not_finite)}",
            "lower the weight of that term or the scale of the inputs, and look for broken annotations",
        )


def _term(term: TermFacts) -> Iterator[Risk]:
    ratio, place = term.at_tap.ratio, term.student.path or "the student"
    if term.error is not None:
        yield Risk(
            "shapes",
            f"{term.name} cannot be computed: {term.error}",
            "tap layers of the same shape, or give the term a student_connector that matches the shapes",
        )
    elif not term.student.has_gradient:
        parameters = term.student.parameters is not None
        found = "do not train" if parameters else "carries no gradient (the layers up to it are frozen)"
        cost = "" if parameters or term.teacher is None else ": it costs a forward pass of the teacher"
        yield Risk(
            "cannot-act",
            f"{term.name} cannot act: its {'parameters' if parameters else 'tap'} {place} {found}",
            f"tap a layer that trains, or leave the term out{cost}",
        )
    elif ratio is not None and ratio < SMALL and term.weight and not alike(term):
        yield Risk(
            "lambda-small",
            f"{term.name} is inert: its gradient at {place} is {ratio:.1e} of the task's",
            f"raise its weight, now {term.weighting}; search it on a logarithmic grid",
        )
    elif ratio is not None and ratio > LARGE:
        yield Risk(
            "lambda-large",
            f"{term.name} outweighs the task: its gradient at {place} is {ratio:.3g} times the "
            "task's in the first step",
            f"lower its weight, now {term.weighting}, unless this is intended; search it on a logarithmic grid",
        )


def _teachers(facts: Facts) -> Iterator[Risk]:
    trained = [teacher for teacher in facts.teachers.values() if teacher.origin != RANDOM]
    starts_as_none = all(teacher.differing for teacher in trained)
    for name, teacher in facts.teachers.items():
        yield from _teacher("the teacher" if len(facts.teachers) == 1 else f"the teacher {name}", teacher)
        if teacher in trained and starts_as_none:
            yield Risk(
                "start",
                f"the student does not start from its source: {len(teacher.differing)} of {teacher.in_common} common "
                f"tensors differ, {some(teacher.differing)}",
                "set model.backbone.init_cfg=dict(type='SourceWeights', checkpoint=...) with the teacher's file, and "
                "remove load_from",
            )


def _teacher(whose: str, teacher: TeacherFacts) -> Iterator[Risk]:
    if teacher.origin == RANDOM:
        yield Risk(
            "random-teacher",
            f"{whose} is untrained",
            "use this for a control only; otherwise remove model.teacher.checkpoint, or set it to the source's file",
        )
    stated = teacher.stated_input
    if stated is not None and not InputAdapter(teacher.teacher_input, stated).changes_nothing:
        yield Risk(
            "input",
            f"the file of {whose} states an input convention that differs from model.teacher.input",
            "remove model.teacher.input, which overrides the file",
        )
    elif teacher.converted:
        yield Risk(
            "input",
            f"the input conventions differ: the images are converted for {whose}, but a student that starts "
            "from that source gets images unlike those that its weights were trained with",
            "set model.data_preprocessor to the teacher's convention, unless the student starts from other weights",
        )
    failed = [check for check, held in teacher.checks.items() if not held]
    if failed:
        yield Risk(
            "teacher", f"{whose} fails: {', '.join(failed)}", "report this as a bug: the teacher must not change"
        )


def _run(facts: Facts) -> Iterator[Risk]:
    yield from _without_hook(facts)
    run = facts.run
    if not run.has_epoch_seed_hook:
        yield Risk(
            "epoch-seed",
            "epochs are not seeded: a resumed run gets different augmentations from an uninterrupted one",
            "add dict(type='EpochSeedHook') to custom_hooks",
        )
    unused = facts.parameters.without_gradient
    if unused and not run.find_unused_parameters:
        yield Risk(
            "no-gradient",
            f"{len(unused)} trainable parameters get no gradient, which stops distributed training: {some(unused)}",
            "freeze them (model.frozen), or set find_unused_parameters=True",
        )


def _without_hook(facts: Facts) -> Iterator[Risk]:
    if facts.run.has_cross_task_hook:
        return
    connectors, cure = facts.parameters.parts.get(CONNECTORS), "add dict(type='CrossTaskHook') to custom_hooks"
    scheduled = [term.name for term in facts.losses.terms if term.scheduled]
    balanced = [term.name for term in facts.losses.terms if term.balanced]
    if connectors is not None and connectors.trainable:
        message = "connectors train, but are not saved: a resumed run would start them from scratch"
        yield Risk("connectors-not-saved", message, cure)
    if balanced:
        message = f"the balance of {some(balanced)} is not saved: a resumed run would start it from scratch"
        yield Risk("balance-not-saved", message, cure)
    if scheduled:
        message = f"{some(scheduled)} would not know the progress of training: the first step would fail"
        yield Risk("no-progress", message, cure)
