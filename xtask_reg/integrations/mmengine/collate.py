"""Collates a batch into a few tensors, instead of several for each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from mmengine.structures import BaseDataElement
from torch import Tensor


@FUNCTIONS.register_module()
def stacked_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """MMEngine's ``pseudo_collate``, with images of one size as one tensor ``(B, C, H, W)``.

    The tensors of the ``data_samples`` (heatmaps, their weights) stay where they are, each field a part of one tensor
    for the whole batch. A worker then sends a handful of tensors, where each of them costs the training process a
    call to it; and the images are normalised at once, to the same values.

    In a config: ``train_dataloader = dict(collate_fn=dict(type='stacked_collate'))``.

    Args:
        samples: what the pipeline gives. ``inputs`` that are no tensors of one size and precision, ``data_samples``
            that are no data elements, and all else are as ``pseudo_collate`` leaves them.
    """
    batch: dict[str, Any] = pseudo_collate(samples)
    if _alike(batch.get("inputs", ())):
        batch["inputs"] = torch.stack(batch["inputs"])
    fields: dict[tuple[str, ...], list[tuple[BaseDataElement, str, Tensor]]] = {}
    for sample in batch.get("data_samples", ()):
        for where, *field in _tensors(sample) if isinstance(sample, BaseDataElement) else ():
            fields.setdefault(where, []).append(tuple(field))
    for found in fields.values():
        values = [value for *_, value in found]
        if _alike(values):
            for (element, name, _), part in zip(found, torch.stack(values)):
                element.set_data({name: part})
    return batch


def _alike(values: Sequence[object]) -> bool:
    """Whether these are tensors of one shape and precision."""
    kinds = {(each.shape, each.dtype) if isinstance(each, Tensor) else None for each in values}
    return len(kinds) == 1 and None not in kinds


def _tensors(
    element: BaseDataElement, where: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], BaseDataElement, str, Tensor]]:
    """The tensors in a data element and the elements nested in it: path, element, name, value."""
    for name, value in element.items():
        if isinstance(value, BaseDataElement):
            yield from _tensors(value, (*where, name))
        elif isinstance(value, Tensor):
            yield (*where, name), element, name, value
