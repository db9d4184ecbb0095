"""Files of predicted landmarks, which an evaluation writes and every report is made from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xtask_reg.landmarks.metrics import (
    LandmarkScores,
    Reduction,
    Space,
    image_errors,
    landmark_distances,
    score_images,
    success_rates,
    unit,
)
from xtask_reg.whole_file import whole_file


@dataclass(frozen=True)
class Reading:
    """How points become errors and scores: see :func:`xtask_reg.landmarks.score_images`.

    Attributes:
        reduction: how the errors of an image's landmarks become one number.
        space: what errors count in.
        threshold: error above which an image is a failure, in that unit.
        success_at: distances of the successful detection rates, in that unit.
        extent: width and height of the network's input in heatmap or input pixels, if ``space`` is one of these. None
            for ``'image'`` and ``'mm'``.
    """

    reduction: Reduction
    space: Space
    threshold: float
    success_at: Sequence[float] = ()
    extent: Sequence[float] | None = None

    @property
    def unit(self) -> str:
        """The unit of the errors, such as ``'heatmap px (64 x 64)'``."""
        return unit(self.space) + (f" ({self.extent[0]:g} x {self.extent[1]:g})" if self.extent else "")


@dataclass(frozen=True)
class LandmarkError:
    """The distance of one landmark to the true one.

    Attributes:
        name: of the landmark.
        mean: over the images that show it; NaN if none does.
        sd: their standard deviation (n - 1 in the denominator; NaN for one image).
        images: how many show it.
    """

    name: str
    mean: float
    sd: float
    images: int


@dataclass(frozen=True)
class Predictions:
    """Landmarks of N images, in image pixels, and how they are scored.

    Attributes:
        images: the image files.
        landmarks: the names of the K landmarks.
        predicted: ``(N, K, 2)``.
        target: ``(N, K, 2)``.
        visible: ``(N, K)`` bool.
        scale: ``(N, 2)``, the factors that convert image pixels (x, y) to the unit of the reading.
        reading: how errors are computed.
    """

    images: Sequence[str]
    landmarks: Sequence[str]
    predicted: np.ndarray
    target: np.ndarray
    visible: np.ndarray
    scale: np.ndarray
    reading: Reading

    @cached_property
    def errors(self) -> np.ndarray:
        """``(N,)``, the error of each image; NaN where no landmark is visible."""
        return image_errors(*self._scaled(), self.visible, self.reading.reduction)

    @property
    def scores(self) -> LandmarkScores:
        """The scores over all images."""
        how = self.reading
        return score_images(self.errors, reduction=how.reduction, space=how.space, threshold=how.threshold)

    @property
    def success_rates(self) -> dict[float, float]:
        """The fraction of landmarks within each of the reading's distances: :func:`success_rates`."""
        within = self.reading.success_at
        rates = success_rates(*self._scaled(), within, self.visible)
        return {float(distance): float(rate) for distance, rate in zip(within, rates)}

    @property
    def by_landmark(self) -> list[LandmarkError]:
        """The error of each landmark over the images that show it."""
        distances = landmark_distances(*self._scaled(), self.visible)
        return [_landmark_error(name, own[~np.isnan(own)]) for name, own in zip(self.landmarks, distances.T)]

    def _scaled(self) -> tuple[np.ndarray, np.ndarray]:
        scale = self.scale[:, None]
        return self.predicted * scale, self.target * scale

    def write(self, path: Path) -> None:
        """Write a JSON file, completely or not at all."""
        rows = [
            {
                "image": image,
                "error": None if np.isnan(error) else float(error),
                "predicted": predicted.tolist(),
                "target": target.tolist(),
                "visible": visible.tolist(),
                "scale": scale.tolist(),
            }
            for image, error, predicted, target, visible, scale in zip(
                self.images, self.errors, self.predicted, self.target, self.visible, self.scale
            )
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_text(json.dumps({**asdict(self.reading), "landmarks": list(self.landmarks), "images": rows}))


def _landmark_error(name: str, distances: np.ndarray) -> LandmarkError:
    mean = float(distances.mean()) if len(distances) else math.nan
    sd = float(distances.std(ddof=1)) if len(distances) > 1 else math.nan
    return LandmarkError(name, mean, sd, len(distances))


def read_predictions(path: Path) -> Predictions:
    """Read a file that :meth:`Predictions.write` wrote; the ``error`` of each image is computed anew.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is not such a file, or its numbers do not fit together or cannot be scored.
    """
    try:
        content = json.loads(path.read_text())
        reading = Reading(**{key: content[key] for key in Reading.__annotations__})
        read = _read(content["images"], [str(name) for name in content["landmarks"]], reading)
        _check(read)
        return read
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a predictions file of LandmarkMetric(outfile=...): {error!r}; if an earlier version "
            "wrote it, run tools/test.py again"
        ) from error


def _read(rows: Sequence[Mapping[str, Any]], landmarks: Sequence[str], reading: Reading) -> Predictions:
    return Predictions(
        images=[str(row["image"]) for row in rows],
        landmarks=landmarks,
        predicted=np.array([row["predicted"] for row in rows], dtype=float),
        target=np.array([row["target"] for row in rows], dtype=float),
        visible=np.array([row["visible"] for row in rows]),
        scale=np.array([row["scale"] for row in rows], dtype=float),
        reading=reading,
    )


def _check(read: Predictions) -> None:
    """Raise ``ValueError`` if the parts do not fit together, or cannot be scored."""
    if read.scale.shape != (len(read.images), 2) or not (np.isfinite(read.scale) & (read.scale > 0)).all():
        raise ValueError("scale: expected two numbers above 0 for each image")
    extent = read.reading.extent
    if extent is not None and not (np.shape(extent) == (2,) and (np.asarray(extent, dtype=float) > 0).all()):
        raise ValueError(f"extent={extent!r}: expected two numbers above 0, or null")
    read.scores  # noqa: B018  (checks points, errors and their reading)
    read.success_rates  # noqa: B018  (checks the distances)
    if len(read.landmarks) != read.target.shape[1]:
        raise ValueError(f"{len(read.landmarks)} names of landmarks for {read.target.shape[1]} points per image")


def markdown_table(scores: Mapping[str, LandmarkScores], seconds: Mapping[str, float]) -> str:
    """One row per method: ME ± SD, FR, AUC, and the seconds that it trained; then a line with the reading."""
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
