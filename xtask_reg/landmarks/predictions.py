"""A file of predicted landmarks: what an evaluation writes and every report is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtask_reg.landmarks.metrics import LandmarkScores, Reduction, Space, landmark_errors, score_images, unit
from xtask_reg.whole_file import whole_file


@dataclass(frozen=True)
class Predictions:
    """Landmarks of N images, in image pixels, with the error of each image.

    Attributes:
        images: the image files.
        predicted: ``(N, K, 2)``.
        target: ``(N, K, 2)``.
        visible: ``(N, K)`` bool.
        errors: ``(N,)``, in the unit of ``space``; NaN where no landmark is visible.
        reduction, space, threshold: the reading of the errors, see :func:`xtask_reg.landmarks.score_images`.
    """

    images: Sequence[str]
    predicted: np.ndarray
    target: np.ndarray
    visible: np.ndarray
    errors: np.ndarray
    reduction: Reduction
    space: Space
    threshold: float

    @property
    def scores(self) -> LandmarkScores:
        """The scores over all images."""
        return score_images(self.errors, reduction=self.reduction, space=self.space, threshold=self.threshold)

    def write(self, path: Path) -> None:
        """Write a JSON file, whole or not at all."""
        reading = {"reduction": self.reduction, "space": self.space, "threshold": self.threshold}
        rows = [
            {
                "image": image,
                "error": None if np.isnan(error) else float(error),
                "predicted": predicted.tolist(),
                "target": target.tolist(),
                "visible": visible.tolist(),
            }
            for image, predicted, target, visible, error in zip(
                self.images, self.predicted, self.target, self.visible, self.errors
            )
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_text(json.dumps({**reading, "images": rows}))


def read_predictions(path: Path) -> Predictions:
    """Read a file that :meth:`Predictions.write` wrote.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no such file, or its numbers do not fit together or cannot be scored.
    """
    try:
        content = json.loads(path.read_text())
        read = _read(content["images"], {key: content[key] for key in ("reduction", "space", "threshold")})
        landmark_errors(read.predicted, read.target, read.visible)  # looks at shapes and numbers,
        read.scores  # noqa: B018  (and this at errors and their reading)
        return read
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} is no file of predictions as LandmarkMetric(outfile=...) writes it: {error!r}"
        ) from error


def _read(rows: Sequence[Mapping[str, Any]], reading: dict[str, Any]) -> Predictions:
    return Predictions(
        images=[str(row["image"]) for row in rows],
        predicted=np.array([row["predicted"] for row in rows], dtype=float),
        target=np.array([row["target"] for row in rows], dtype=float),
        visible=np.array([row["visible"] for row in rows]),
        errors=np.array([np.nan if row["error"] is None else row["error"] for row in rows], dtype=float),
        **reading,
    )


def markdown_table(scores: Mapping[str, LandmarkScores], seconds: Mapping[str, float]) -> str:
    """One row a method: ME ± SD, FR, AUC, and the seconds that it trained; then a line with the reading."""
    rows = [
        f"| {method} | {s.me:.3f} ± {s.sd:.3f} | {100 * s.fr:.2f} % | {s.auc:.3f} | {seconds[method]:.0f} |"
        for method, s in scores.items()
    ]
    table = "\n".join(["| method | ME ± SD | FR | AUC | training (s) |", "|---|---|---|---|---|", *rows])
    first = next(iter(scores.values()))
    how = f"{first.reduction.replace('_', ' ')} in {unit(first.space)}"
    return (
        f"{table}\n\nME: {how}, mean ± SD over {first.images} images; "
        f"FR: images with an error above {first.threshold}; AUC of the CED up to there."
    )
