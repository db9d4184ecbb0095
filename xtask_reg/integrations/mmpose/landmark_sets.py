"""Checks that data sets, network and checkpoint have the same landmarks in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xtask_reg.data.coco import difference


def names_in(metainfo: Mapping[str, Any]) -> list[str]:
    """The names of the landmarks in MMPose's description of a data set; empty if it has none."""
    return [str(name) for _, name in sorted(metainfo.get("keypoint_id2name", {}).items())]


def check_names(names: Sequence[str], kind: str, expected: Sequence[str], where: str) -> None:
    """Raise ``ValueError`` if the landmarks of the ``kind`` set differ from those in ``where``, both being known."""
    if names and expected and list(names) != list(expected):
        raise ValueError(
            f"the {kind} set {difference(names, expected)} in {where}: give train_dataloader, val_dataloader and "
            "test_dataloader files of the same landmarks, and the same dataset.subset"
        )


def check_heatmaps(names: Sequence[str], kind: str, head: Any) -> None:
    """Raise ``ValueError`` if the head's number of heatmaps, if stated, is not that of the ``kind`` set's landmarks."""
    heatmaps = getattr(head, "out_channels", None)
    if names and heatmaps is not None and heatmaps != len(names):
        raise ValueError(
            f"the {kind} set has {len(names)} landmarks, the head gives {heatmaps} heatmaps: set "
            f"model.head.out_channels={len(names)}, or the same dataset.subset of {heatmaps} landmarks in "
            "train_dataloader, val_dataloader and test_dataloader"
        )
