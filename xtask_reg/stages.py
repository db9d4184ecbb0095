"""The stages of an encoder: where networks of any family are usually tapped."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from xtask_reg.submodules import find_module, unwrap
from xtask_reg.tappable import Tappable, list_taps

SMALL, USUAL = 64, 224
"""Sides in pixels of the images that are tried: a small one, and that of many networks with a fixed size."""
FEWEST = 3
"""So many stages are taken for an encoder."""
STEM = 0.1
"""What ends within this share of the modules, in the order of their calls, is a stem."""


def find_stages(model: nn.Module, images: Tensor | None = None) -> list[str]:
    """Paths of the encoder's stages, from shallow to deep; each gives one tensor.

    The model is called once. Of modules side by side (children of one parent), the stages are the last one of each
    resolution, as long as the resolution falls, from a quarter of the image's side on: strides 4, 8, 16, 32 in most
    networks. Where dilation keeps the lowest resolution, as DeepLab does, the modules ``layer3`` and ``layer4`` are
    both stages, since they are named alike. The parent with the most resolutions counts; if several have as many, the
    one called first. Modules within those that are called with a list of tensors (decoders, necks, parallel branches)
    do not count, nor does a stem, nor ``nn.Identity``.

    Without such maps, the stages are the blocks of a transformer: modules of one class side by side that give tokens
    ``(B, N, C)``, if those of that class all give the same shape.

    The model does not change (see :func:`xtask_reg.tappable.list_taps`).

    Args:
        model: an encoder, or a network with one in it, wrapped or not.
        images: what it is called with, ``(B, C, H, W)``; by default one black RGB image of 64, or else 224 pixels, or
            else the ``image_size`` or ``img_size`` that a submodule states, as those of transformers do.

    Raises:
        ValueError: if there are not at least three stages, or the model cannot be called with the images.

    Example:
        >>> find_stages(torchvision.models.resnet18())
        ['layer1', 'layer2', 'layer3', 'layer4']
    """
    return list(stage_shapes(model, images))


def stage_shapes(model: nn.Module, images: Tensor | None = None) -> dict[str, tuple[int, ...]]:
    """The stages of :func:`find_stages`, and the shape of what each gives."""
    model = unwrap(model)
    taps, images = called_with(model, images)
    families = _families(taps)
    for stages in (_of_maps(families, _stem(taps), images.shape[2], model), _of_tokens(families)):
        if len(stages) >= FEWEST:
            shapes = {tap.path: tap.shape or () for tap in taps}
            return {stage: shapes[stage] for stage in stages}
    raise ValueError(
        f"no stages were found in {type(model).__name__}: neither {FEWEST} modules side by side that give smaller and "
        f"smaller maps (B, C, H, W), from stride 4 on, nor {FEWEST} of one class that give tokens (B, N, C) of one "
        "shape; name the taps yourself: `xtask-reg taps` lists them"
    )


def corresponding_stages(student: nn.Module, teacher: nn.Module) -> dict[str, str]:
    """The stages of two encoders, from shallow to deep: the teacher's by the student's.

    Raises:
        ValueError: if one has none, or they have different numbers of stages.
    """
    return check_corresponding(find_stages(student), find_stages(teacher))


def check_corresponding(student: Iterable[str], teacher: Iterable[str]) -> dict[str, str]:
    """The teacher's stages by the student's; ``ValueError`` if one has more than the other."""
    own, source = list(student), list(teacher)
    if len(own) != len(source):
        raise ValueError(
            f"the student has the stages {own}, the teacher {source}: which belong together is not known; name the taps"
        )
    return dict(zip(own, source))


def called_with(model: nn.Module, images: Tensor | None) -> tuple[list[Tappable], Tensor]:
    """The modules of the model, and the images that it was called with; see :func:`find_stages`."""
    if images is not None:
        return list_taps(model, images), images
    *tried, last = (torch.zeros(1, 3, *size) for size in ((SMALL, SMALL), (USUAL, USUAL), *_stated_size(model)))
    for black in tried:
        with suppress(ValueError):
            return list_taps(model, black), black
    return list_taps(model, last), last


def _stated_size(model: nn.Module) -> list[tuple[int, int]]:
    """Height and width of the images for which the first submodule that says so is made; nothing if none does."""
    for module in model.modules():
        size = getattr(module, "image_size", getattr(module, "img_size", None))
        pair = (size, size) if isinstance(size, int) else size
        if isinstance(pair, (tuple, list)) and [type(side) for side in pair] == [int, int]:
            return [(pair[0], pair[1])]
    return []


def _families(taps: Sequence[Tappable]) -> list[list[Tappable]]:
    """Modules side by side that can be tapped, as they were called."""
    joining = tuple(f"{tap.path}." for tap in taps if tap.joins)
    families: dict[str, list[Tappable]] = defaultdict(list)
    for tap in taps:
        if not (tap.reason or tap.type == "Identity" or tap.path.startswith(joining)):
            families[tap.path.rpartition(".")[0]].append(tap)
    return list(families.values())


def _stem(taps: Sequence[Tappable]) -> set[str]:
    called = [tap.path for tap in taps if tap.calls]
    return set(called[: int(STEM * len(called))])


def _of_maps(families: Sequence[Sequence[Tappable]], stem: set[str], height: int, model: nn.Module) -> list[str]:
    descents = [_descent(family, height) for family in families]
    encoders = [maps for maps in descents if maps and maps[-1].path not in stem]
    maps = max(encoders, key=lambda maps: len(_last(maps)), default=[])
    return _with_dilated(maps, model)


def _with_dilated(maps: Sequence[Tappable], model: nn.Module) -> list[str]:
    """The last module of each resolution; of the lowest all, if the modules are named alike, one a resolution above."""
    last = list(_last(maps).values())
    words = {_word(path, model) for path in last}
    alike = [tap for tap in maps if {_word(tap.path, model)} == words != {None}]
    above = [tap.path for tap in alike if _size(tap) != _size(maps[-1])]
    return [tap.path for tap in alike] if above and above == last[:-1] else last


def _descent(family: Sequence[Tappable], height: int) -> list[Tappable]:
    """The maps of stride 4 and more (sizes are rounded) and of several cells, until one is larger than the last."""
    maps: list[Tappable] = []
    for tap in family:
        size = _size(tap)
        if len(size) != 2 or max(size) == 1 or size[0] > height / 3:
            continue
        if maps and any(now > before for now, before in zip(size, _size(maps[-1]))):
            break
        maps.append(tap)
    return maps


def _size(tap: Tappable) -> tuple[int, ...]:
    return (tap.shape or ())[2:]


def _last(maps: Sequence[Tappable]) -> dict[tuple[int, ...], str]:
    """The path of the last module of each resolution."""
    return {_size(tap): tap.path for tap in maps}


def _word(path: str, model: nn.Module) -> str | None:
    """``"layer"`` of ``"encoder.layer3"``; None for other names and for modules without submodules."""
    name = re.fullmatch(r"(\D+)\d+", path.rpartition(".")[2])
    return name[1] if name and any(find_module(model, path).children()) else None


def _of_tokens(families: Sequence[Sequence[Tappable]]) -> list[str]:
    """The largest group of modules of one class side by side that give tokens."""
    shapes: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    for number, family in enumerate(families):
        for tap in family:
            if tap.shape is not None and len(tap.shape) == 3:
                shapes[tap.type].add(tap.shape)
                groups[number, tap.type].append(tap.path)
    alike = [paths for (_, kind), paths in groups.items() if len(shapes[kind]) == 1]
    return max(alike, key=len, default=[])
