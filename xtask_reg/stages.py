"""The stages of an encoder: where networks of any family are usually tapped."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from xtask_reg.first_call import Call, called_with, large_enough, larger
from xtask_reg.map_layout import with_channels_last
from xtask_reg.submodules import find_module, unwrap
from xtask_reg.tappable import Tappable

FEWEST = 3
"""An encoder has at least so many stages."""
FEW = 4
"""A stage may reduce a map of at most so many cells a side to a single cell; larger maps are pooled globally."""
STEM = 0.1
"""Modules that end within this share of all modules, in the order of their calls, are a stem."""


def find_stages(model: nn.Module, images: Tensor | None = None) -> list[str]:
    """Paths of the encoder's stages, from shallow to deep; each gives one tensor.

    The model is called, and does not change (see :func:`xtask_reg.tappable.list_taps`). Among sibling modules (children
    of one parent), the stages are the last one at each resolution, as long as the resolution falls, from a quarter of
    the image's side on: strides 4, 8, 16, 32 in most networks. Their outputs are maps ``(B, C, H, W)`` or, as in Swin,
    ``(B, H, W, C)``, with the aspect ratio of the image.

    - Maps of a single cell do not count. So if the model accepts it, images of less than 64 pixels are replaced by a
      black one of at least that size, and by one of twice the side if a module with parameters gives a single cell
      after a small map.
    - Where dilation keeps the lowest resolution, as in DeepLab, the modules ``layer3`` and ``layer4`` are both stages,
      since their names differ only in the number.
    - The parent with the most resolutions counts; if several have as many, the one called first.
    - Modules inside those that are called with a list of tensors (decoders, necks, parallel branches) do not count; nor
      do a stem and ``nn.Identity``.

    If there are no such maps, the stages are the blocks of a transformer: sibling modules of one class that give tokens
    ``(B, N, C)``, provided that all modules of that class give the same shape.

    Args:
        model: an encoder, or a network with one in it, wrapped or not.
        images: what the model is called with, ``(B, C, H, W)`` or ``(B, C, D, H, W)``. By default one black image with
            as many channels as the first convolution takes, of 64 or else 224 pixels, or else of the ``image_size`` or
            ``img_size`` that a submodule states, as those of transformers do; for volumes of 64 voxels a side.

    Raises:
        ValueError: if there are not at least three stages, the model cannot be called with the images, or a map of a
            single cell might be a stage and the model cannot be called with larger images.

    Example:
        >>> find_stages(torchvision.models.resnet18())
        ['layer1', 'layer2', 'layer3', 'layer4']
    """
    return list(stage_shapes(model, called_with(model, images)))


def stage_shapes(model: nn.Module, call: Call) -> dict[str, tuple[int, ...]]:
    """The stages of :func:`find_stages` among the modules of one call, with the shapes of their outputs.

    Raises:
        ValueError: if there are not at least three.
    """
    stages = stages_of(model, call)
    if not stages:
        raise ValueError(f"{none_found(model)}; `xtask-reg taps` and `xtask_reg.list_taps` show what there is")
    shapes = {tap.path: tap.shape or () for tap in call.taps}
    return {stage: shapes[stage] for stage in stages}


def stages_of(model: nn.Module, call: Call) -> list[str]:
    """The stages of :func:`find_stages` among the modules of one call; none if there are not at least three.

    Raises:
        ValueError: if they cannot be determined.
    """
    maps = _of_maps(unwrap(model), call) if call.images.ndim > 2 else []
    return next((stages for stages in (maps, _of_tokens(_families(call.taps))) if len(stages) >= FEWEST), [])


def none_found(model: nn.Module) -> str:
    """The message that a model has no stages, why, and what to do."""
    return (
        f"no stages were found in {type(unwrap(model)).__name__}: neither {FEWEST} modules side by side that give "
        f"smaller and smaller maps (B, C, H, W) or (B, H, W, C), from stride 4 on, nor {FEWEST} of one class that give "
        "tokens (B, N, C) of one shape; name the taps yourself, stages={student's: source's} or in terms"
    )


def _families(taps: Sequence[Tappable]) -> list[list[Tappable]]:
    """Groups of sibling modules that can be tapped, in the order of their calls."""
    joining = tuple(f"{tap.path}." for tap in taps if tap.joins)
    families: dict[str, list[Tappable]] = defaultdict(list)
    for tap in taps:
        if not (tap.reason or tap.type == "Identity" or tap.path.startswith(joining)):
            families[tap.path.rpartition(".")[0]].append(tap)
    return list(families.values())


def _stem(taps: Sequence[Tappable]) -> set[str]:
    called = [tap.path for tap in taps if tap.calls]
    return set(called[: int(STEM * len(called))])


def _of_maps(model: nn.Module, call: Call) -> list[str]:
    """The last module at each resolution, for images so large that no stage gives a single cell."""
    call = large_enough(model, call)
    found = _longest_descent(call)
    stages = _with_dilated(found.maps, model)
    while found.cells:
        call = _twice_as_large(model, call.images, found.cells[-1])
        found = _longest_descent(call)
        more = _with_dilated(found.maps, model)
        if len(more) <= len(stages):
            break
        stages = more
    return stages


def _twice_as_large(model: nn.Module, images: Tensor, cell: str) -> Call:
    try:
        return called_with(model, larger(images, 2))
    except ValueError as error:
        raise ValueError(
            f"for images of shape {tuple(images.shape)} {cell!r} of {type(model).__name__} gives a single cell; larger "
            "images would show whether that is a stage or a part of the head, but the network does not take them; name "
            "the taps yourself, stages={student's: source's} or in terms"
        ) from error


class _Map(NamedTuple):
    """A module's output: its size in cells."""

    path: str
    size: tuple[int, ...]
    parameters: int


@dataclass
class _Descent:
    """Maps that get smaller and smaller, and the modules after them that give a single cell and may be stages."""

    maps: list[_Map] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)


def _longest_descent(call: Call) -> _Descent:
    last, whole = with_channels_last(call), tuple(call.images.shape[2:])
    descents = [_descent([_map(tap, last) for tap in family], whole) for family in _families(call.taps)]
    stem = _stem(call.taps)
    encoders = [descent for descent in descents if descent.maps and descent.maps[-1].path not in stem]
    return max(encoders, key=lambda descent: len(_last(descent.maps)), default=_Descent())


def _map(tap: Tappable, channels_last: Set[str]) -> _Map:
    shape = tap.shape or ()
    return _Map(tap.path, shape[1:-1] if tap.path in channels_last else shape[2:], tap.parameters)


def _with_dilated(maps: Sequence[_Map], model: nn.Module) -> list[str]:
    """The last module at each resolution; all at the lowest (dilated) one, if numbered like those before them."""
    last = list(_last(maps).values())
    words = {_word(path, model) for path in last}
    alike = [each for each in maps if {_word(each.path, model)} == words != {None}]
    above = [each.path for each in alike if each.size != maps[-1].size]
    return [each.path for each in alike] if above and above == last[:-1] else last


def _descent(family: Sequence[_Map], whole: tuple[int, ...]) -> _Descent:
    """The maps of stride 4 or more (sizes are rounded) and of several cells, up to the first that is larger again."""
    found = _Descent()
    for each in family:
        if len(each.size) != len(whole) or min(now / side for now, side in zip(each.size, whole)) > 1 / 3:
            continue
        if max(each.size) == 1:
            if found.maps and max(found.maps[-1].size) <= FEW and each.parameters:
                found.cells.append(each.path)
            continue
        if found.maps and any(now > before for now, before in zip(each.size, found.maps[-1].size)):
            break
        found.maps.append(each)
    return found


def _last(maps: Sequence[_Map]) -> dict[tuple[int, ...], str]:
    """The path of the last module at each resolution."""
    return {each.size: each.path for each in maps}


def _word(path: str, model: nn.Module) -> str | None:
    """``"layer"`` from ``"encoder.layer3"``; None for unnumbered names and for modules without submodules."""
    name = re.fullmatch(r"(\D+)\d+", path.rpartition(".")[2])
    return name[1] if name and any(find_module(model, path).children()) else None


def _of_tokens(families: Sequence[Sequence[Tappable]]) -> list[str]:
    """The largest group of sibling modules of one class that give tokens."""
    shapes: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    for number, family in enumerate(families):
        for tap in family:
            if tap.shape is not None and len(tap.shape) == 3:
                shapes[tap.type].add(tap.shape)
                groups[number, tap.type].append(tap.path)
    alike = [paths for (_, kind), paths in groups.items() if len(shapes[kind]) == 1]
    return max(alike, key=len, default=[])
