"""The arithmetic behind the defaults in docs/paper.md. Nothing is trained.

python benchmarks/paper_arithmetic.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from provenance import provenance
from torch import nn

from xtask_reg import PooledClassifier, SoftmaxL2Loss
from xtask_reg.landmarks import decode_heatmaps, gaussian_heatmaps, image_errors

IMAGES, K, SIDE, STRIDE, SIGMA = 2000, 14, 64, 4, 1.5
DRAWS = 50
"""Number of images, enough to determine the third digit of argmax's error floor."""
CLASSES, TEMPERATURE = 8631, 2.0
LAMBDA = 0.002
TEST_IMAGES = 310
FAILURE_RATES = {"FE": 94.52, "FTP": 40.32, "FT": 10.65, "HG": 12.58, "CTD-CD": 5.81, "CTD-ED": 7.74, "CTD-Com": 6.45}
"""Percent, Table 1 of the paper."""
RESULTS = Path(__file__).parent / "results" / "paper_arithmetic.json"


def task_loss(heatmaps: np.ndarray) -> dict[str, float]:
    """L_R of a network that outputs zero everywhere, as an untrained decoder nearly does."""
    total = float((heatmaps**2).sum(axis=(1, 2, 3)).mean())
    return {"cells": K * SIDE * SIDE, "sum": total, "mean": total / (K * SIDE * SIDE)}


def drawn_points(random: np.random.Generator) -> np.ndarray:
    """Random landmarks away from the border, in heatmap pixels."""
    return random.uniform(8, SIDE - 8, (IMAGES, K, 2))


def argmax_floor() -> dict[str, float]:
    """The error of a perfect network whose heatmaps are decoded by plain argmax."""
    random = np.random.default_rng(0)
    floors = [_floor(drawn_points(random)) for _ in range(DRAWS)]
    return {reading: float(np.mean([floor[reading] for floor in floors])) for reading in floors[0]}


def _floor(points: np.ndarray) -> dict[str, float]:
    found = decode_heatmaps(gaussian_heatmaps(points, (SIDE, SIDE), SIGMA))[0]
    return {
        "mean distance, heatmap px": float(image_errors(found, points).mean()),
        "mean distance, input px": float(image_errors(found * STRIDE, points * STRIDE).mean()),
        "vector norm, input px": float(image_errors(found * STRIDE, points * STRIDE, reduction="vector_norm").mean()),
    }


def failures() -> dict[str, float]:
    """The number of images, of 310, that each failure rate of the paper means."""
    return {name: rate / 100 * TEST_IMAGES for name, rate in FAILURE_RATES.items()}


def window_weights() -> dict[str, float]:
    """The weights of a corner and a central cell under a window of 7 on an 8 x 8 map, relative to global averaging."""
    features = torch.ones(1, 1, 8, 8, requires_grad=True)
    PooledClassifier(nn.Linear(1, 1, bias=False), window=7)(features).sum().backward()
    weights = features.grad[0, 0] / features.grad.mean()
    return {"corner": weights[0, 0].item(), "middle": weights[4, 4].item()}


def prediction_distance(spread: float) -> float:
    """L_CD of two independent predictions whose logits are normal with this standard deviation."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 200, CLASSES, generator=generator) * spread
    return SoftmaxL2Loss(temperature=TEMPERATURE)(student, teacher).item()


def main() -> None:
    """Compute everything and write the result file."""
    loss = task_loss(gaussian_heatmaps(drawn_points(np.random.default_rng(0)), (SIDE, SIDE), SIGMA))
    results = {
        "L_R of an answer of zero": loss,
        "lambda x L_ED over L_R at a cosine of 0": {key: LAMBDA / loss[key] for key in ("sum", "mean")},
        "argmax floor": argmax_floor(),
        "failures of 310": failures(),
        "weight of a cell under the 7 x 7 window at 256 px": window_weights(),
        "L_CD of unrelated predictions, by spread of logits": {
            str(spread): prediction_distance(spread) for spread in (1, 5, 10, 20, 40)
        },
        "provenance": provenance(),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
