"""Finds landmarks and heatmaps of faces in image files, with MMPose's own inference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from xtask_reg.data.images import is_nearly_black, read_image
from xtask_reg.integrations.mmpose.inference_pipeline import inference_pipeline
from xtask_reg.landmarks.faces import Face, LandmarkedFace


def predict(model: BaseModel, faces: Sequence[Face], batch_size: int = 16) -> Iterator[list[LandmarkedFace]]:
    """Run an estimator over faces, batch by batch.

    Each face is read, cut out and scaled by the pipeline of the config's test set (or of its validation set, if there
    is no test), and decoded by the config's codec: the points are those of ``mmpose.apis.inference_topdown``.

    Args:
        model: an estimator of :func:`xtask_reg.integrations.mmpose.student.load_student`.
        faces: where they are.
        batch_size: faces that are computed at once.

    Raises:
        FileNotFoundError: if an image does not exist.
        ValueError: if one is damaged or too small, or its box lies outside of it; for a config without a pipeline.
    """
    init_default_scope(model.cfg.get("default_scope", "mmpose"))
    pipeline = Compose(inference_pipeline(model.cfg))
    model.test_cfg["output_heatmaps"] = True
    for start in range(0, len(faces), batch_size):
        batch = faces[start : start + batch_size]
        inputs = [_input(face, model.dataset_meta) for face in batch]
        with torch.no_grad():
            samples = model.test_step(pseudo_collate([pipeline(dict(given)) for given in inputs]))
        yield [_found(*each) for each in zip(batch, inputs, samples, strict=True)]


def _input(face: Face, dataset_meta: dict[str, Any]) -> dict[str, Any]:
    """The pipeline's input, as from ``inference_topdown``."""
    image = read_image(face.image)
    height, width = image.shape[:2]
    left, top, *size = face.box or (0, 0, width, height)
    corners = [left, top, left + size[0], top + size[1]]
    if corners[0] >= width or corners[1] >= height or corners[2] <= 0 or corners[3] <= 0:
        raise ValueError(f"{face.image}: the box {face.box} lies outside of its {width} x {height} pixels")
    box = np.array([corners], dtype=np.float32)
    return {
        "img": image,
        "img_path": str(face.image),
        "bbox": box,
        "bbox_score": np.ones(1, np.float32),
        **dataset_meta,
    }


def _found(face: Face, given: dict[str, Any], sample: Any) -> LandmarkedFace:
    height, width = given["img"].shape[:2]
    fields = sample.get("pred_fields")
    heatmaps = None if fields is None or "heatmaps" not in fields else fields.heatmaps.cpu().numpy()
    return LandmarkedFace(
        image=face.image,
        size=(width, height),
        box=face.box or (0, 0, width, height),
        points=np.asarray(sample.pred_instances.keypoints[0][:, :2], dtype=np.float64),
        confidence=np.asarray(sample.pred_instances.keypoint_scores[0], dtype=np.float64),
        heatmaps=heatmaps,
        to_image=np.zeros((2, 3)) if heatmaps is None else _to_image(sample.metainfo, heatmaps.shape[2:0:-1]),
        is_dark=is_nearly_black(given["img"]),
    )


def _to_image(meta: dict[str, Any], cells: Sequence[int]) -> np.ndarray:
    """The affine map ``(2, 3)`` from heatmap cells to image pixels, as MMPose's estimator applies it."""
    centre, scale = (np.asarray(meta[key], dtype=np.float64) for key in ("input_center", "input_scale"))
    return np.column_stack([np.diag(scale / np.asarray(cells)), centre - scale / 2])
