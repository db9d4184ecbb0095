"""The demonstration's table and pictures, from the predictions that the metric wrote."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmpose.apis import inference_topdown, init_model

from xtask_reg.landmarks import LandmarkScores, score_images
from xtask_reg.landmarks.plots import plot_ced, plot_qualitative

NOTE = (
    "A small demonstration with one seed on synthetic faces: it shows that everything runs, and is no evidence for or "
    "against a method. Nothing was tuned."
)


def read_predictions(path: Path) -> tuple[LandmarkScores, np.ndarray, dict[str, Any]]:
    """Scores, per-image errors and the raw content of a file that ``LandmarkMetric(outfile=...)`` wrote."""
    content = json.loads(path.read_text())
    errors = np.array([np.nan if image["error"] is None else image["error"] for image in content["images"]])
    reading = {key: content[key] for key in ("reduction", "space", "threshold")}
    return score_images(errors, **reading), errors, content


def markdown_table(scores: Mapping[str, LandmarkScores], seconds: Mapping[str, float]) -> str:
    """One row a method: ME ± SD, FR, AUC, and the seconds that it trained."""
    rows = [
        f"| {method} | {s.me:.3f} ± {s.sd:.3f} | {100 * s.fr:.2f} % | {s.auc:.3f} | {seconds[method]:.0f} |"
        for method, s in scores.items()
    ]
    return "\n".join(["| method | ME ± SD | FR | AUC | training (s) |", "|---|---|---|---|---|", *rows])


def write_report(
    out: Path, predictions: Mapping[str, Path], seconds: Mapping[str, float], facts: Mapping[str, Any]
) -> str:
    """Write ``results.json``, ``table.md`` and ``ced.png`` to ``out``; returns the Markdown."""
    read = {method: read_predictions(path) for method, path in predictions.items()}
    scores = {method: score for method, (score, _, _) in read.items()}
    any_score = next(iter(scores.values()))
    reading = (
        f"ME: {any_score.reduction.replace('_', ' ')} in {any_score.space} px, over {any_score.images} images of "
        f"unseen people; FR: images with an error above {any_score.threshold}; AUC of the CED up to there."
    )
    text = "\n\n".join([markdown_table(scores, seconds), reading, NOTE]) + "\n"
    (out / "table.md").write_text(text)
    methods = {method: {**asdict(score), "seconds": seconds[method]} for method, score in scores.items()}
    (out / "results.json").write_text(json.dumps({"note": NOTE, **facts, "methods": methods}, indent=1))
    errors = {method: error for method, (_, error, _) in read.items()}
    figure = plot_ced(errors, any_score.threshold, space=any_score.space, reduction=any_score.reduction)
    figure.savefig(out / "ced.png", dpi=120, bbox_inches="tight")
    return text


def write_qualitative(out: Path, models: Mapping[str, tuple[str, Path]], predictions: Path, count: int = 4) -> None:
    """Write ``qualitative.png``: some test images with each method's points and summed heatmap.

    Args:
        out: folder to write to.
        models: for each method its config file and checkpoint.
        predictions: any method's predictions, for the images and their true points.
        count: how many images.
    """
    images = json.loads(predictions.read_text())["images"]
    chosen = [images[i] for i in np.linspace(0, len(images) - 1, count).astype(int)]
    points: dict[str, np.ndarray] = {}
    heatmaps: dict[str, np.ndarray] = {}
    for method, (config, checkpoint) in models.items():
        with redirect_stdout(io.StringIO()):
            model = init_model(config, str(checkpoint), device="cpu")
        model.test_cfg["output_heatmaps"] = True
        results = [inference_topdown(model, image["image"])[0] for image in chosen]
        points[method] = np.stack([result.pred_instances.keypoints[0] for result in results])
        heatmaps[method] = np.stack([result.pred_fields.heatmaps.numpy().sum(0) for result in results])
    pictures = [cv2.imread(image["image"])[:, :, ::-1] for image in chosen]
    target = np.array([image["target"] for image in chosen])
    visible = np.array([image["visible"] for image in chosen])
    figure = plot_qualitative(pictures, target, points, heatmaps, visible)
    figure.savefig(out / "qualitative.png", dpi=120, bbox_inches="tight")
