"""What may spoil a run, judged by its facts: one rule a function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xtask_reg.inputs import InputAdapter
from xtask_reg.integrations.mmpose.doctor.facts import Facts, Risk, TermFacts
from xtask_reg.integrations.mmpose.doctor.network import CONNECTORS

SMALL, LARGE = 1e-4, 1.0
"""Between these a term's gradient at its tap, as a share of the task's, is taken to be of use."""
ALIKE = 1e-3
"""Relative difference below which student and teacher give the same features."""
SMALL_BATCH = 2


def find_risks(facts: Facts) -> Iterator[Risk]:
    """The risks of a run, the gravest kinds first."""
    yield from _step(facts)
    for term in facts.losses.terms:
        yield from _term(term)
    yield from _teacher(facts)
    yield from _data(facts)
    yield from _run(facts)


def alike(term: TermFacts) -> bool:
    """Whether the loss of a term is given (nearly) the same features of student and teacher."""
    return term.difference is not None and term.difference < ALIKE


def _step(facts: Facts) -> Iterator[Risk]:
    data, losses = facts.data, facts.losses
    if data.encoder_stride and any(size % data.encoder_stride for size in data.batch_shape[2:]):
        size = " x ".join(map(str, data.batch_shape[2:]))
        then = f", and the step fails: {losses.error}" if losses.error else ""
        yield Risk(
            "input-size",
            f"the input of {size} is no multiple of the encoder's stride, {data.encoder_stride}{then}",
            "set input_size of TopdownAffine to multiples of it, in each pipeline",
        )
    if losses.not_finite:
        yield Risk(
            "not-finite",
            f"not finite in the first step: {_some(losses.not_finite)}",
            "lower the weight of that term or the scale of the inputs, and look for broken annotations",
        )


def _term(term: TermFacts) -> Iterator[Risk]:
    if term.error is not None:
        yield Risk(
            "shapes",
            f"{term.name} cannot be computed: {term.error}",
            "tap layers of one shape, or give the term a student_connector that makes them fit",
        )
    elif not term.student.has_gradient:
        yield Risk(
            "cannot-act",
            f"{term.name} cannot act: its tap {term.student.path} carries no gradient (the layers up to it are frozen)",
            "tap a layer that trains, or leave the term out: it costs a forward pass of the teacher",
        )
    elif term.at_tap.ratio is not None and term.at_tap.ratio < SMALL and not alike(term):
        yield Risk(
            "lambda-small",
            f"{term.name} is inert: its gradient at {term.student.path} is {term.at_tap.ratio:.1e} of the task's",
            f"raise its weight, now {term.weight:g}; search it on a logarithmic grid",
        )
    elif term.at_tap.ratio is not None and term.at_tap.ratio > LARGE:
        yield Risk(
            "lambda-large",
            f"{term.name} outweighs the task: its gradient at {term.student.path} is {term.at_tap.ratio:.3g} times the "
            "task's in the first step",
            f"lower its weight, now {term.weight:g}, unless that is meant; search it on a logarithmic grid",
        )


def _teacher(facts: Facts) -> Iterator[Risk]:
    teacher = facts.teacher
    if teacher is None:
        return
    if teacher.origin == "random":
        yield Risk(
            "random-teacher",
            "the teacher is untrained",
            "right for a control only; else leave out model.teacher.checkpoint, or name the source's file",
        )
    elif teacher.differing:
        yield Risk(
            "start",
            f"the student does not start as its source: {len(teacher.differing)} of {teacher.in_common} common tensors "
            f"differ, {_some(teacher.differing)}",
            "give model.backbone init_cfg=dict(type='SourceWeights', checkpoint=...) with the teacher's file, and no "
            "load_from",
        )
    stated = teacher.stated_input
    if stated is not None and not InputAdapter(teacher.teacher_input, stated).changes_nothing:
        yield Risk(
            "input",
            "the teacher's file states another input convention than the one it is given",
            "leave out model.teacher.input, which overrides the file",
        )
    elif teacher.converted:
        yield Risk(
            "input",
            "the input conventions differ: the images are converted for the teacher, but the student, if it starts "
            "from that source, gets others than its weights were trained with",
            "set model.data_preprocessor to the teacher's convention, unless the student starts from elsewhere",
        )
    failed = [check for check, held in teacher.checks.items() if not held]
    if failed:
        yield Risk("teacher", f"the teacher does not hold: {', '.join(failed)}", "report this; the teacher must stay")


def _data(facts: Facts) -> Iterator[Risk]:
    data = facts.data
    if data.flips and not data.flip_pairs:
        yield Risk(
            "flip",
            "images are flipped, but no landmarks are paired: a flip swaps no labels",
            "give the annotation file a flip_index, or set the prob of RandomFlip to 0",
        )
    elif data.one_sided:
        yield Risk(
            "flip",
            f"a flip gives the other side's points to one-sided landmarks: {_some(data.one_sided)}",
            "give each a mirrored partner in flip_index (convert-landmarks --mirror), or set the prob of RandomFlip "
            "to 0",
        )
    if data.never_annotated:
        yield Risk(
            "never-annotated",
            f"no training image shows {_some(data.never_annotated)}",
            "annotate them, or leave them out by train_dataloader.dataset.subset (and val_, test_)",
        )
    batch = data.batch_shape[0]
    if batch <= SMALL_BATCH and facts.parameters.batch_statistics_in_backbone:
        yield Risk(
            "batch-statistics",
            f"{facts.parameters.batch_statistics_in_backbone} batch norms of the encoder take their statistics from "
            f"{batch} image{'s' * (batch > 1)}",
            "set model.backbone.norm_eval=True (the source's statistics), or a larger train_dataloader.batch_size",
        )


def _run(facts: Facts) -> Iterator[Risk]:
    run, connectors = facts.run, facts.parameters.parts.get(CONNECTORS)
    if connectors is not None and connectors.trainable and not run.has_cross_task_hook:
        yield Risk(
            "connectors-not-saved",
            "connectors train, but nothing saves them: a resumed run would begin them anew",
            "add dict(type='CrossTaskHook') to custom_hooks",
        )
    if not run.has_epoch_seed_hook:
        yield Risk(
            "epoch-seed",
            "epochs are not seeded: a resumed run draws other augmentations than an uninterrupted one",
            "add dict(type='EpochSeedHook') to custom_hooks",
        )
    elif run.persistent_workers:
        yield Risk(
            "epoch-seed",
            "EpochSeedHook refuses persistent workers: training would stop at its start",
            "set train_dataloader.persistent_workers=False",
        )
    unused = facts.parameters.without_gradient
    if unused and not run.find_unused_parameters:
        yield Risk(
            "no-gradient",
            f"{len(unused)} trainable parameters get no gradient, which stops distributed training: {_some(unused)}",
            "freeze them (model.frozen), or set find_unused_parameters=True",
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
