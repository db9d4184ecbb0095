"""Averaging with the flipped image: the points that a perfect detector then finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import interpolate

from xtask_reg.integrations.mmpose_files import configs

SIDE, STRIDE, WIDTH = 128, 4, 6.0
POINTS = np.random.default_rng(0).uniform(30, 98, (128, 2))
EXACT = dict(type="ExactHeatmap", sigma=1.5, stride=STRIDE)
UDP = dict(type="UDPHeatmap", input_size=(SIDE, SIDE), heatmap_size=(SIDE // STRIDE, SIDE // STRIDE), sigma=2)


class Bright(nn.Module):
    """A detector whose heatmap is the image at the cells' centres: each fourth pixel, or with ``udp`` border to border.

    Shape: images ``(B, 3, H, W)``; a tuple of one heatmap ``(B, 1, H / STRIDE, W / STRIDE)``.
    """

    def __init__(self, udp: bool) -> None:
        super().__init__()
        self.udp = udp

    def forward(self, images: Tensor) -> tuple[Tensor]:
        grey = images[:, :1]
        cells = interpolate(grey, scale_factor=1 / STRIDE, mode="bilinear", align_corners=True)
        return (cells if self.udp else grey[..., ::STRIDE, ::STRIDE],)


MODELS.register_module(module=Bright, force=True)


def found(codec: dict[str, Any], test_cfg: dict[str, Any]) -> np.ndarray:
    """The points ``(N, 2)`` that the detector finds in images with one bright spot each, at ``POINTS``."""
    udp = codec["type"] == "UDPHeatmap"
    head = dict(type="HeatmapHead", in_channels=1, out_channels=1, deconv_out_channels=None, final_layer=None)
    model = MODELS.build(
        dict(
            type="CrossTaskTopdownPoseEstimator",
            data_preprocessor=dict(type="PoseDataPreprocessor", mean=[0] * 3, std=[255] * 3),
            backbone=dict(type="Bright", udp=udp),
            head={**head, "decoder": codec, "loss": dict(type="HeatmapMSELoss")},
            test_cfg=test_cfg,
        )
    )
    affine = dict(type="TopdownAffine", input_size=(SIDE, SIDE), use_udp=udp)
    pipeline = Compose([dict(type="GetBBoxCenterScale", padding=1.0), affine, dict(type="PackPoseInputs")])
    with torch.no_grad():
        samples = model.eval().test_step(pseudo_collate([pipeline(spot(x, y)) for x, y in POINTS]))
    return np.stack([sample.pred_instances.keypoints[0, 0] for sample in samples])


def spot(x: float, y: float) -> dict[str, Any]:
    across, down = (np.exp(-((np.arange(SIDE) - centre) ** 2) / (2 * WIDTH**2)) for centre in (x, y))
    grey = (255 * np.outer(down, across)).astype(np.uint8)
    box = np.array([[0, 0, SIDE, SIDE]], dtype=np.float32)
    return {"img": np.dstack([grey] * 3), "img_path": "", "bbox": box, "bbox_score": np.ones(1), "flip_indices": [0]}


ASIDE = {"shipped": 1 / (2 * STRIDE), "without": -(STRIDE - 1) / (2 * STRIDE), "udp": 0.0, "udp shifted": 0.5}
"""The shift of x in cells: half of the flipped heatmap's offset."""


@pytest.mark.parametrize(
    ("setting", "codec", "shift"),
    [
        ("shipped", {**EXACT, "decode": "argmax"}, True),
        ("shipped", {**EXACT, "decode": "quarter_offset"}, True),
        ("without", {**EXACT, "decode": "quarter_offset"}, False),
        ("udp", UDP, False),
        ("udp shifted", UDP, True),
    ],
)
def test_how_far_flipping_moves_the_points(setting, codec, shift):
    plain, flipped = (found(codec, dict(flip_test=flip, shift_heatmap=shift)) for flip in (False, True))
    x, y = (flipped - plain).mean(axis=0) / STRIDE
    assert x == pytest.approx(ASIDE[setting], abs=0.08)
    assert y == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("base", ["simplebaseline", "hourglass"])
def test_shipped_setting(base):
    """An eighth of a cell remains, a third of the error without the shift; flipping itself is off."""
    config = Config.fromfile(configs() / "_base_" / f"{base}.py")
    assert config.model.test_cfg.to_dict() == dict(flip_test=False, shift_heatmap=True)
    bias = (found(dict(config.model.head.decoder), {**config.model.test_cfg, "flip_test": True}) - POINTS).mean(axis=0)
    assert np.abs(bias).max() < 0.2 * STRIDE
