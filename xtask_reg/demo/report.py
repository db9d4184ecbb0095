"""The demonstration's table and pictures, made from the predictions that the metric wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xtask_reg.data.images import read_image
from xtask_reg.integrations.mmpose.predict import predict
from xtask_reg.integrations.mmpose.student import load_student
from xtask_reg.landmarks.faces import Face
from xtask_reg.landmarks.plots import plot_ced, plot_qualitative
from xtask_reg.landmarks.predictions import Predictions, markdown_table

NOTE = (
    "A small demonstration with one seed on synthetic faces: it shows that everything runs, and is no evidence for or "
    "against a method. Nothing was tuned."
)

SHOWN = 4
"""Number of test images in the picture of the methods."""


def write_report(
    out: Path, predictions: Mapping[str, Predictions], seconds: Mapping[str, float], facts: Mapping[str, Any]
) -> str:
    """Write ``results.json``, ``table.md`` and ``ced.png`` to ``out``; returns the Markdown."""
    scores = {method: prediction.scores for method, prediction in predictions.items()}
    text = f"{markdown_table(scores, seconds)}\n\n{NOTE}\n"
    (out / "table.md").write_text(text)
    methods = {method: {**asdict(score), "seconds": seconds[method]} for method, score in scores.items()}
    (out / "results.json").write_text(json.dumps({"note": NOTE, **facts, "methods": methods}, indent=1))
    errors = {method: prediction.errors for method, prediction in predictions.items()}
    how = next(iter(predictions.values())).reading
    figure = plot_ced(errors, how.threshold, space=how.space, reduction=how.reduction)
    figure.savefig(out / "ced.png", dpi=120, bbox_inches="tight")
    return text


def write_qualitative(out: Path, models: Mapping[str, tuple[Path, Path]], predictions: Predictions) -> None:
    """Write ``qualitative.png``: some test images with each method's points and summed heatmap.

    Args:
        out: folder to write to.
        models: for each method its config file and checkpoint.
        predictions: any method's predictions, for the images and their true points.
    """
    chosen = np.linspace(0, len(predictions.images) - 1, SHOWN).astype(int)
    files = [predictions.images[index] for index in chosen]
    points: dict[str, np.ndarray] = {}
    heatmaps: dict[str, np.ndarray] = {}
    for method, (config, checkpoint) in models.items():
        batches = predict(load_student(config, checkpoint), [Face(Path(file)) for file in files])
        found = [face for batch in batches for face in batch]
        points[method] = np.stack([face.points for face in found])
        heatmaps[method] = np.stack([face.heatmaps.sum(axis=0) for face in found if face.heatmaps is not None])
    pictures = [read_image(Path(file))[:, :, ::-1] for file in files]
    figure = plot_qualitative(pictures, predictions.target[chosen], points, heatmaps, predictions.visible[chosen])
    figure.savefig(out / "qualitative.png", dpi=120, bbox_inches="tight")
