"""The risks in data sets, pipelines and metrics: one rule per function."""

from __future__ import annotations

from collections.abc import Iterator

from xtask_reg.integrations.mmpose.doctor.facts import CodecFacts, Facts, Risk
from xtask_reg.integrations.mmpose.doctor.tables import some

SMALL_BATCH = 2
FAR = 1.0
"""Relative difference above which features of equal weights are far apart: features of 0 would be closer."""


def data_risks(facts: Facts) -> Iterator[Risk]:
    """The risks in data sets, pipelines and metrics."""
    yield from _codec(facts.codec)
    yield from _landmarks(facts)
    if facts.data.test_error is not None:
        yield Risk(
            "test-set",
            f"training would finish, but testing would fail: {facts.data.test_error}",
            "correct this, or configure test_dataloader like train_dataloader and val_dataloader",
        )
    if facts.parameters.batch_statistics_in_backbone:
        yield from _batch_statistics(facts)


def _batch_statistics(facts: Facts) -> Iterator[Risk]:
    batch = facts.data.batch_shape[0]
    found = (
        f"{facts.parameters.batch_statistics_in_backbone} batch norms of the encoder take their statistics from "
        f"{batch} image{'s' * (batch > 1)}"
    )
    cure = "set model.backbone.norm_eval=True (the source's statistics), or a larger train_dataloader.batch_size"
    alike = [name for name, teacher in facts.teachers.items() if teacher.in_common and not teacher.differing]
    far = [term for term in facts.losses.terms if alike and term.apart is not None and term.apart > FAR]
    if batch <= SMALL_BATCH:
        yield Risk("batch-statistics", found, cure)
    elif far:
        yield Risk(
            "batch-statistics",
            f"{found}: with the weights of its source, the student's features at {far[0].student.path} differ from "
            f"the teacher's by {far[0].apart:.0%} of their norm",
            cure,
        )


def _landmarks(facts: Facts) -> Iterator[Risk]:
    data = facts.data
    if data.flips and not data.flip_pairs:
        yield Risk(
            "flip",
            "images are flipped, but no landmarks are paired: a flip swaps no labels",
            "give the annotation file a flip_index, or set the prob of RandomFlip to 0; do neither where each landmark "
            "is its own mirror image, as in lateral views",
        )
    elif data.one_sided:
        yield Risk(
            "flip",
            f"flips put these left or right landmarks at points of the other side: {some(data.one_sided)}",
            "give each a mirrored partner in flip_index (convert-landmarks --mirror), or set the prob of RandomFlip "
            "to 0",
        )
    if data.never_annotated:
        yield Risk(
            "never-annotated",
            f"no training image shows {some(data.never_annotated)}",
            "annotate them, or leave them out by train_dataloader.dataset.subset (and val_, test_)",
        )


def _codec(codec: CodecFacts) -> Iterator[Risk]:
    if codec.differing:
        yield Risk(
            "codec",
            f"heatmaps are made by one codec and read by another: {'; '.join(codec.differing)}",
            "make both equal; sigma has an effect in the training pipeline only",
        )
    if len(set(codec.input_sizes.values())) > 1:
        sizes = ", ".join(f"{key}={width},{height}" for key, (width, height) in codec.input_sizes.items())
        yield Risk("codec", f"the input sizes (width, height) differ: {sizes}", "make all of them equal")
    for key, (stated, made) in codec.other_strides.items():
        yield Risk(
            "codec",
            f"{key}={stated:g}, but a heatmap pixel is {made:g} input pixels wide: ME and FR are in another unit",
            f"leave out {key}, unless this unit is intended",
        )
