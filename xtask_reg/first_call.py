"""One call of a network to examine it, with the user's images or with black ones that it accepts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from xtask_reg.submodules import unwrap
from xtask_reg.tappable import Tappable, as_parameters, list_taps, unchanged_call

SMALL, USUAL = 64, 224
"""Sides in pixels of the images that are tried: a small one, and the usual one of networks with a fixed size."""
RGB = 3


class Call(NamedTuple):
    """One call of a network: the images, and what its modules did with them."""

    images: Tensor
    taps: list[Tappable]


def called_with(model: nn.Module, images: Tensor | None) -> Call:
    """Call a model with these images, or with the first black ones that it accepts.

    Raises:
        ValueError: if it cannot be called with them.
    """
    return first_call(model, black_images(model) if images is None else [images])


def first_call(model: nn.Module, tried: Iterable[Tensor], adapter: nn.Module | None = None) -> Call:
    """Call a model with the first images that it accepts, after the adapter.

    Raises:
        ValueError: if it accepts none; the message is that of the first failure.
    """
    failures = []
    for images in tried:
        try:
            given = images if adapter is None else unchanged_call(adapter, as_parameters(images, model))
            return Call(given, list_taps(model, given))
        except ValueError as error:
            failures.append(error)
    raise failures[0]


def large_enough(model: nn.Module, call: Call) -> Call:
    """The call; or, if its images are small, one with a larger image, if the model accepts that."""
    times = -(-SMALL // max(call.images.shape[2:]))
    if times > 1:
        with suppress(ValueError):
            return called_with(model, larger(call.images, times))
    return call


def larger(images: Tensor, times: int) -> Tensor:
    """A black image, each side multiplied by ``times``."""
    return torch.zeros(1, images.shape[1], *(times * side for side in images.shape[2:]))


def black_images(
    model: nn.Module, sizes: Sequence[tuple[int, ...]] | None = None, channels: int | None = None
) -> Iterator[Tensor]:
    """Images ``(1, C, *size)`` that the model may accept, one at a time, the likeliest first.

    Args:
        model: gives the number of channels: that of its first convolution, or else three.
        sizes: by default sides of 64 and 224 pixels, then the ``image_size`` or ``img_size`` that a submodule states,
            as those of transformers do; sides of 64 voxels if the first convolution is 3D.
        channels: the number of channels, if it is known.
    """
    first = next((module for module in unwrap(model).modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))), None)
    if sizes is None:
        sizes = [(SMALL,) * 3] if isinstance(first, nn.Conv3d) else [(SMALL,) * 2, (USUAL,) * 2, *_stated_size(model)]
    likely = (RGB if first is None else first.in_channels, RGB) if channels is None else (channels,)
    for number in dict.fromkeys(likely):
        for size in sizes:
            yield torch.zeros(1, number, *size)


def _stated_size(model: nn.Module) -> list[tuple[int, int]]:
    """Height and width that the first submodule with such an attribute states; empty if there is none."""
    for module in model.modules():
        size = getattr(module, "image_size", getattr(module, "img_size", None))
        pair = (size, size) if isinstance(size, int) else size
        if isinstance(pair, (tuple, list)) and [type(side) for side in pair] == [int, int]:
            return [(pair[0], pair[1])]
    return []
