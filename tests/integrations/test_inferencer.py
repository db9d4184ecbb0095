"""MMPose's inferencer on a shipped config gives the points of ``inference_topdown``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmpose.apis import MMPoseInferencer, inference_topdown, init_model
from mmpose.registry import DATASETS, MODELS


@pytest.fixture
def network(tiny_config, tmp_path) -> tuple[str, str]:
    """The files of a tiny demo config and of an untrained checkpoint."""
    config = tiny_config({})
    config.dump(tmp_path / "config.py")
    meta = {"dataset_meta": DATASETS.build(config.test_dataloader.dataset).metainfo}
    weights = MODELS.build(config.model).state_dict()
    torch.save({"state_dict": weights, "meta": meta}, tmp_path / "checkpoint.pth")
    return str(tmp_path / "config.py"), str(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize("detector", ["whole_image", None])
def test_inferencer(network, landmarks, detector):
    config, checkpoint = network
    image = str(next(landmarks.glob("images/test_*.png")))
    inferencer = MMPoseInferencer(pose2d=config, pose2d_weights=checkpoint, det_model=detector, device="cpu")
    ((face,),) = next(inferencer(image))["predictions"]
    (expected,) = inference_topdown(init_model(config, checkpoint, device="cpu"), image)
    np.testing.assert_allclose(face["keypoints"], expected.pred_instances.keypoints[0], rtol=0, atol=1e-4)
