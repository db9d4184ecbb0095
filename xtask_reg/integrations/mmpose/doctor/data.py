"""The facts about a training set and its first batch."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from mmengine.runner import Runner
from mmpose.datasets.transforms import RandomFlip

from xtask_reg.integrations.mmpose.doctor.facts import DataFacts
from xtask_reg.integrations.mmpose.doctor.step import Step, encoder_stride
from xtask_reg.integrations.mmpose.errors import one_line_errors
from xtask_reg.integrations.mmpose.hook import check_data
from xtask_reg.integrations.mmpose.landmark_sets import check_names, names_in

_SIDE = re.compile(r"(^|[\W_])(left|right|l|r)([\W_]|$)", re.IGNORECASE)


def test_loop(runner: Runner) -> tuple[Any, str | None]:
    """The test loop, None if there is none; and the error if it cannot be built."""
    try:
        with one_line_errors():
            loop = runner.test_loop
            if loop is not None:
                expected = names_in(runner.train_dataloader.dataset.metainfo)
                check_names(names_in(loop.dataloader.dataset.metainfo), "test", expected, "the training set")
                check_data(loop)
            return loop, None
    except ValueError as error:
        return None, str(error)


def data_facts(runner: Runner, step: Step, test: Any, test_error: str | None) -> DataFacts:
    """The data sets of a run, and the batch of a step; ``test`` is what :func:`test_loop` found."""
    train = runner.train_dataloader.dataset
    names = names_in(train.metainfo)
    partners = list(train.metainfo.get("flip_indices", range(len(names))))
    flips = _flips(train)
    return DataFacts(
        train_images=len(train),
        val_images=len(runner.val_dataloader.dataset) if runner.val_loop is not None else None,
        test_images=None if test is None else len(test.dataloader.dataset),
        test_error=test_error,
        batch_shape=tuple(step.inputs.shape),
        lowest=float(step.inputs.min()),
        highest=float(step.inputs.max()),
        landmarks=len(names) or None,
        annotated=_annotated(step.samples),
        flips=flips,
        flip_pairs=sum(index < partner for index, partner in enumerate(partners)),
        one_sided=tuple(n for i, n in enumerate(names) if flips and partners[i] == i and _SIDE.search(n)),
        never_annotated=_never_annotated(train, names, partners if flips else list(range(len(names)))),
        encoder_stride=encoder_stride(step),
    )


def _flips(dataset: Any) -> bool:
    """Whether the pipeline of a data set, or of one that it wraps, may flip images from left to right."""
    while not hasattr(dataset, "pipeline") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    transforms = getattr(getattr(dataset, "pipeline", None), "transforms", ())
    return any(_flips_horizontally(transform) for transform in transforms if isinstance(transform, RandomFlip))


def _flips_horizontally(transform: RandomFlip) -> bool:
    directions = [transform.direction] if isinstance(transform.direction, str) else transform.direction
    chances = [transform.prob] * len(directions) if isinstance(transform.prob, float) else transform.prob
    return any(chance > 0 and direction != "vertical" for direction, chance in zip(directions, chances))


def _annotated(samples: list[Any]) -> float | None:
    labels: list[Any] = [getattr(sample, "gt_instance_labels", {}) for sample in samples]
    weights = [
        torch.as_tensor(row) for label in labels if "keypoint_weights" in label for row in label.keypoint_weights
    ]
    return float((torch.cat([row.flatten() for row in weights]) > 0).float().mean()) if weights else None


def _never_annotated(dataset: Any, names: list[str], partners: list[int]) -> tuple[str, ...]:
    """Landmarks that no image shows, and whose flip partner no image shows either."""
    if not hasattr(dataset, "get_data_info"):
        return ()
    visible = [dataset.get_data_info(index).get("keypoints_visible") for index in range(len(dataset))]
    if any(values is None for values in visible):
        return ()
    shown = np.concatenate(visible).max(axis=0) > 0
    return tuple(name for index, name in enumerate(names) if not (shown[index] or shown[partners[index]]))
