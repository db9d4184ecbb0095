"""Landmarks and heatmaps of image files, by MMPose's inference API."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from mmpose.apis import inference_topdown, init_model


def predict(
    config: Path, checkpoint: Path, images: Sequence[str], device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Run a trained estimator on whole images.

    Args:
        config: the config that it was trained with.
        checkpoint: its checkpoint; the teacher's file is not needed.
        images: image files, each with one face that fills it.
        device: where to run.

    Returns:
        The landmarks ``(N, K, 2)`` in image pixels, and the heatmaps ``(N, K, H, W)``.
    """
    with redirect_stdout(io.StringIO()):
        model = init_model(str(config), str(checkpoint), device=device)
    model.test_cfg["output_heatmaps"] = True
    results = [inference_topdown(model, image)[0] for image in images]
    points = np.stack([result.pred_instances.keypoints[0] for result in results])
    return points, np.stack([result.pred_fields.heatmaps.cpu().numpy() for result in results])
