"""The codec's settings in the pipelines, head and metrics of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.config import Config

from xtask_reg.integrations.mmpose.codec_settings import DECODER, GEOMETRY, differing, pipeline_steps, pixels_per_cell
from xtask_reg.integrations.mmpose.doctor.facts import CodecFacts
from xtask_reg.integrations.mmpose.metric import LandmarkMetric


def codec_facts(config: Config, head: Any, loops: Mapping[str, Any]) -> CodecFacts:
    """The settings of a config about heatmaps.

    Args:
        config: the run's config.
        head: the model's head.
        loops: the loops of validation and test, by the key of their evaluators.
    """
    decoder = getattr(head, "decoder", None)
    return CodecFacts(
        differing=tuple(differing(config.train_dataloader, decoder, ("type", "sigma", *GEOMETRY))),
        input_sizes=_input_sizes(config, decoder),
        other_strides={
            f"{key}.stride": (metric.stride, made)
            for key, loop in loops.items()
            for metric in loop.evaluator.metrics
            if (made := _other_stride(metric, decoder)) is not None
        },
    )


def _input_sizes(config: Config, decoder: Any) -> dict[str, tuple[int, int]]:
    loaders = {key: config.get(key) for key in ("train_dataloader", "val_dataloader", "test_dataloader")}
    stated = {
        f"{at}.input_size": step["input_size"]
        for key, loader in loaders.items()
        for at, step in pipeline_steps(loader, key)
        if "input_size" in step
    }
    if getattr(decoder, "input_size", None) is not None:
        stated[f"{DECODER}.input_size"] = decoder.input_size
    return {key: (int(width), int(height)) for key, (width, height) in stated.items()}


def _other_stride(metric: Any, decoder: Any) -> float | None:
    """Input pixels per heatmap pixel (x), if the metric's ``stride`` is another number."""
    cell = pixels_per_cell(decoder)
    if cell is None or not isinstance(metric, LandmarkMetric) or metric.stride is None or metric.space != "heatmap":
        return None
    return None if np.allclose(cell, metric.stride) else float(cell[0])
