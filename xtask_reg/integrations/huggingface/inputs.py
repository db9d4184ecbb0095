"""The input convention of a Hugging Face image processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xtask_reg.inputs import InputConvention, Triple

WHITE = 255
"""The value of a white pixel in a processor's input."""
FIELDS = (
    "do_rescale",
    "rescale_factor",
    "rescale_offset",
    "do_normalize",
    "image_mean",
    "image_std",
    "include_top",
    "do_flip_channel_order",
)


def input_convention(processor: Any, size: tuple[int, int] | None = None) -> InputConvention:
    """What a network expects of its images, by the image processor that was published with it.

    A processor makes ``(pixel * rescale_factor - image_mean) / image_std`` of pixels from 0 to 255. ``do_rescale`` and
    ``do_normalize`` switch the two steps off, and ``do_flip_channel_order`` makes BGR. EfficientNet's takes 1 away
    after the first step (``rescale_offset``) and divides by the std once more at the end (``include_top``).

    Its ``size`` and its cropping are not taken over: they say what the processor makes, not what the network needs.
    Convolutional networks take any size; a ViT with learned positions needs its ``config.image_size``, which is then
    given as ``size``. The adapter resizes bilinearly, whatever the processor's ``resample`` is.

    Args:
        processor: an image processor of transformers, a processor that has one, or what a
            ``preprocessor_config.json`` holds.
        size: ``(height, width)`` in pixels that the network needs; None where any will do.

    Raises:
        ValueError: if it states no ``do_normalize``, or no mean and std though that is on, or no valid convention.

    Example:
        >>> half = [0.5, 0.5, 0.5]
        >>> input_convention({"do_normalize": True, "image_mean": half, "image_std": half}).mean
        (0.5, 0.5, 0.5)
    """
    stated = _stated(processor)
    rescales = stated.get("do_rescale", True)
    offset = 1 if rescales and stated.get("rescale_offset") else 0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if stated["do_normalize"]:
        mean, std = _triple(stated, "image_mean"), _triple(stated, "image_std")
    if stated.get("include_top"):
        std = tuple(once * again for once, again in zip(std, _triple(stated, "image_std")))  # type: ignore[assignment]  # three of them
    return InputConvention(
        mean=tuple(value + offset for value in mean),  # type: ignore[arg-type]  # three of them
        std=std,
        channels="bgr" if stated.get("do_flip_channel_order") else "rgb",
        value_range=WHITE * stated.get("rescale_factor", 1 / WHITE) if rescales else WHITE,
        size=size,
    )


def _stated(processor: Any) -> Mapping[str, Any]:
    """The fields by name. An object has all of them, and None switches a step off; files omit defaults."""
    processor = getattr(processor, "image_processor", processor)
    if isinstance(processor, Mapping):
        stated = processor
    else:
        stated = {name: getattr(processor, name) for name in FIELDS if hasattr(processor, name)}
    if "do_normalize" not in stated:
        raise ValueError(
            f"{type(processor).__name__} does not say whether it normalizes (do_normalize); expected an image "
            "processor of transformers, or what its preprocessor_config.json holds"
        )
    return stated


def _triple(stated: Mapping[str, Any], name: str) -> Triple:
    """One value per channel; a single number holds for all."""
    values = stated.get(name)
    if values is None:
        raise ValueError(f"there is no {name}, but do_normalize (or include_top) is on, which needs it")
    return tuple(values) if isinstance(values, Sequence) else (values,) * 3
