"""Checks that the augmentation makes as few different images as a cache of the teacher requires."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xtask_reg.caching import TeacherCache
from xtask_reg.caching.raw_bytes import image_key
from xtask_reg.integrations.mmengine.model import CrossTaskModel
from xtask_reg.integrations.mmengine.random_state import preserved_random_state

_DRAWS_A_VERSION = 8


@preserved_random_state()
def check_augmentation(loader: Any, model: CrossTaskModel, cache: TeacherCache) -> None:
    """Draw the first training sample again and again, preprocessed as for the teacher, and count the different images.

    Args:
        loader: the training's data loader.
        model: the model that is trained.
        cache: the cache of one of the model's teachers.

    Raises:
        ValueError: if the data set has more samples than ``cache.images``, or more than ``cache.versions`` different
            images come of one sample; the message names the random steps of the pipeline.
    """
    dataset = loader.dataset
    samples = _samples(dataset)
    if samples > cache.images:
        raise ValueError(
            f"the training set has {samples} samples, but the teacher's cache is for images={cache.images}: set "
            f"model.teacher.cache.images={samples}, or train without cache"
        )
    draws = _DRAWS_A_VERSION * (cache.versions + 1)
    with torch.no_grad():
        batches = (model.data_preprocessor(loader.collate_fn([dataset[0]]), True) for _ in range(draws))
        found = {image_key(model.teacher_images(batch["inputs"])) for batch in batches}
    if len(found) > cache.versions:
        raise ValueError(
            f"the teacher's cache is for versions={cache.versions} of each image, but {draws} draws of the first "
            f"sample made {len(found)} different images; random in the pipeline: {_listed(dataset, draws)}. Draw from "
            "a finite set instead (QuantizedBBoxTransform in the place of RandomBBoxTransform), set "
            "model.teacher.cache.versions to how many there are, or train without cache"
        )


def _samples(dataset: Any) -> int:
    """The number of different samples, which MMEngine's wrappers may repeat."""
    inner = getattr(dataset, "dataset", None)
    return len(dataset) if inner is None else min(len(dataset), _samples(inner))


def _listed(dataset: Any, draws: int) -> str:
    steps = [
        f"{name} ({f'{outcomes} outcomes' if outcomes < draws else 'another outcome in each draw'})"
        for name, outcomes in _random_steps(dataset, draws)
    ]
    return ", ".join(steps) or "none of its steps by itself (the data set, or the data preprocessor)"


def _random_steps(dataset: Any, draws: int) -> Iterator[tuple[str, int]]:
    """Name and number of outcomes of each pipeline step that gives different ones for one input."""
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    steps = getattr(getattr(dataset, "pipeline", None), "transforms", ())
    sample = dataset.get_data_info(0) if steps else None
    for step in steps:
        results = [step(copy.deepcopy(sample)) for _ in range(draws)]
        outcomes = len({_outcome(result) for result in results})
        if outcomes > 1:
            yield type(step).__name__, outcomes
        sample = next((result for result in results if result is not None), None)
        if sample is None:
            return


def _outcome(value: Any) -> Any:
    """A hashable value that is equal for equal results."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if isinstance(value, Tensor):
        return image_key(value)
    if isinstance(value, Mapping):
        return tuple((key, _outcome(item)) for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return tuple(map(_outcome, value))
    return value if isinstance(value, (str, bytes, int, float, bool, np.generic, type(None))) else type(value).__name__
