"""COCO-style landmark files as an MMPose data set, without a line of Python per landmark set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from mmpose.registry import DATASETS

from xtask_reg.data.coco import MM_PER_PIXEL, LandmarkNames, check_landmark_file, landmark_names, read_subset


@DATASETS.register_module()
class LandmarkDataset(BaseCocoStyleDataset):
    """Images with landmarks from a COCO-style file; names and flip pairs come from the file itself.

    The file's first category names the landmarks (``keypoints``) and may pair them for flips (``flip_index``: for each
    landmark the index of its mirror image). Without ``flip_index`` a flip moves the points but swaps none.

    Args:
        ann_file: the COCO-style JSON, relative to ``data_root``.
        data_root: folder of the annotation file and of the images.
        subset: use only these landmarks: a list of indices, or ``dict(file=..., name=...)`` naming an entry
            ``{"index": [...]}`` of a JSON file in ``data_root``.
        **kwargs: every other argument of MMPose's ``BaseCocoStyleDataset``.

    Raises:
        FileNotFoundError: if the annotation file or an image is not there.
        ValueError: if the file cannot be used (see ``xtask_reg.data.coco.check_landmark_file``).
    """

    def __init__(
        self,
        ann_file: str,
        data_root: str = "",
        subset: Sequence[int] | dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        path = Path(data_root) / ann_file
        check_landmark_file(path)
        if isinstance(subset, dict):
            subset = read_subset(Path(data_root) / subset["file"], subset["name"])
        names = landmark_names(path)
        self._subset = list(range(len(names.names))) if subset is None else list(subset)
        kwargs["metainfo"] = {**_metainfo(names.select(self._subset)), **(kwargs.get("metainfo") or {})}
        super().__init__(ann_file=ann_file, data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """The instances; every image must exist in a readable format."""
        samples = super().load_data_list()
        if not samples:
            raise ValueError(f"{self.ann_file} has no annotation with a visible landmark (or all are marked iscrowd)")
        unreadable = [sample["img_path"] for sample in samples if not cv2.haveImageReader(str(sample["img_path"]))]
        if unreadable:
            raise FileNotFoundError(
                f"{len(unreadable)} of {len(samples)} images do not exist or are unreadable, e.g. {unreadable[0]}"
            )
        return samples

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> dict[str, Any] | None:
        """One instance, with the chosen landmarks and the box as it is in the file (MMPose clips it at W - 1)."""
        raw = raw_data_info["raw_ann_info"]
        points = np.asarray(raw["keypoints"], dtype=float).reshape(-1, 3)[self._subset]
        chosen = {**raw, "keypoints": points.flatten().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
        chosen[MM_PER_PIXEL] = raw_data_info["raw_img_info"].get(MM_PER_PIXEL)  # where a metric finds it
        info = super().parse_data_info({**raw_data_info, "raw_ann_info": chosen})
        if info is not None:
            x, y, width, height = raw["bbox"]
            info["bbox"] = np.array([[x, y, x + width, y + height]], dtype=np.float32)
        return info


def _metainfo(names: LandmarkNames) -> dict[str, Any]:
    """MMPose's description of the landmarks."""
    keypoints = {
        index: {
            "id": index,
            "name": name,
            "color": [51, 153, 255],
            "type": "",
            "swap": "" if names.flip[index] == index else names.names[names.flip[index]],
        }
        for index, name in enumerate(names.names)
    }
    count = len(keypoints)
    return {
        "dataset_name": names.category,  # the same in all splits: ConcatDataset requires equal metainfo
        "keypoint_info": keypoints,
        "skeleton_info": {},
        "joint_weights": [1.0] * count,
        "sigmas": [0.05] * count,
    }
