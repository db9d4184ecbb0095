"""The pipeline by which a config prepares images for a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config


def inference_pipeline(config: Config) -> Sequence[Mapping[str, Any]]:
    """The pipeline of the config's test set, or of its validation set if there is no test.

    Of a data set that wraps others, such as ``ConcatDataset``, it is the first one's.

    Raises:
        ValueError: if there is none.
    """
    for key in ("test_dataloader", "val_dataloader"):
        found = _pipeline((config.get(key) or {}).get("dataset"))
        if found:
            return found
    raise ValueError(
        "the config has no pipeline in test_dataloader.dataset or val_dataloader.dataset: give it the test set's"
    )


def _pipeline(dataset: Any) -> Any:
    """The pipeline in a data set's config, or else the first in those that it wraps; None if there is none."""
    if not isinstance(dataset, Mapping):
        return None
    wrapped = (dataset.get("dataset"), *(dataset.get("datasets") or ()))
    return dataset.get("pipeline") or next(filter(None, map(_pipeline, wrapped)), None)
