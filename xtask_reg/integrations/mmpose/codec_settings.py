"""The settings of the codecs in pipelines and head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmpose.registry import KEYPOINT_CODECS

GEOMETRY = ("stride", "input_size", "heatmap_size", "simcc_split_ratio")
"""If these differ, points are decoded to other places than they were encoded from."""
DECODER = "model.head.decoder"


def pixels_per_cell(codec: Any) -> np.ndarray | None:
    """Input pixels (x, y) per heatmap pixel of a codec; None if it makes no heatmaps."""
    size = getattr(codec, "stride", getattr(codec, "scale_factor", None))
    return None if size is None else np.broadcast_to(np.asarray(size, dtype=float), 2)


def pipeline_steps(config: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The steps of all pipelines in a config, each with its dotted key; ``key`` is that of ``config`` itself."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            if name == "pipeline" and isinstance(value, (list, tuple)):
                steps = ((f"{key}.pipeline.{index}", step) for index, step in enumerate(value))
                yield from ((at, step) for at, step in steps if isinstance(step, Mapping))
            else:
                yield from pipeline_steps(value, f"{key}.{name}")
    elif isinstance(config, (list, tuple)):
        for index, value in enumerate(config):
            yield from pipeline_steps(value, f"{key}.{index}")


def differing(loader: Any, decoder: Any, settings: tuple[str, ...]) -> list[str]:
    """The settings in which the heatmaps of the training data differ from what the head's decoder expects.

    Args:
        loader: the config of ``train_dataloader``.
        decoder: the codec of the head.
        settings: attributes to compare, where both codecs have them; ``'type'`` is their class, and ``'stride'`` the
            result of :func:`pixels_per_cell`.

    Returns:
        For each ``"KEY=1 and model.head.decoder.stride=2"``.
    """
    found: list[str] = []
    if decoder is None:
        return found
    for key, step in pipeline_steps(loader, "train_dataloader"):
        encoder = step.get("encoder")
        for config in encoder if isinstance(encoder, (list, tuple)) else filter(None, [encoder]):
            codec = KEYPOINT_CODECS.build(config)
            for name in settings:
                own, other = _setting(codec, name), _setting(decoder, name)
                if own is not None and other is not None and not np.array_equal(own, other):
                    found.append(f"{key}.encoder.{name}={_short(own)} and {DECODER}.{name}={_short(other)}")
    return found


def _setting(codec: Any, name: str) -> Any:
    if name == "type":
        return type(codec).__name__
    return pixels_per_cell(codec) if name == "stride" else getattr(codec, name, None)


def _short(value: Any) -> str:
    """A setting as text; a pair of equal numbers is shortened to one."""
    numbers = np.unique(value)
    if len(numbers) == 1 and numbers.dtype.kind in "if":
        return f"{numbers[0]:g}"
    return str(value.tolist() if isinstance(value, np.ndarray) else value)
