"""The paper's metrics as an MMPose evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmpose.registry import METRICS

from xtask_reg.data.coco import MM_PER_PIXEL
from xtask_reg.integrations.mmpose.codec_settings import pixels_per_cell
from xtask_reg.integrations.mmpose.landmark_sets import names_in
from xtask_reg.landmarks import score_images, success_rates
from xtask_reg.landmarks.metrics import Reduction, Space
from xtask_reg.landmarks.predictions import Predictions, Reading


@METRICS.register_module()
class LandmarkMetric(BaseMetric):
    """ME, SD, FR (in percent) and AUC over images, see :mod:`xtask_reg.landmarks.metrics`.

    Args:
        space: what errors count in: pixels of the ``'heatmap'`` (the likelier reading of Fu et al.), of the network's
            ``'input'``, or of the original ``'image'``; or ``'mm'``, if the image's entry in the data says
            ``mm_per_pixel``.
        reduction: ``'mean_distance'`` or ``'vector_norm'``.
        threshold: an image whose error is greater is a failure.
        stride: input pixels per heatmap pixel, for ``space='heatmap'``; None for those of the head's codec, which
            :class:`CrossTaskPoseHook` tells.
        success_at: distances for each of which the percentage of landmarks is given that are no further off, as
            ``SDR@<distance>``: :func:`xtask_reg.landmarks.success_rates`.
        outfile: JSON file for the points and the error of each image; None for none.

    Raises:
        ValueError: for an unknown space or reduction, or a threshold, stride or distance that is not positive; when it
            is used, if it must know the stride or ``mm_per_pixel`` and does not.
    """

    default_prefix = "landmark"

    def __init__(
        self,
        space: Space = "heatmap",
        reduction: Reduction = "mean_distance",
        threshold: float = 1.2,
        stride: float | None = None,
        success_at: Sequence[float] = (),
        outfile: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        score_images(np.zeros(1), reduction=reduction, space=space, threshold=threshold)
        try:
            success_rates(np.zeros((1, 1, 2)), np.zeros((1, 1, 2)), success_at)
        except (TypeError, ValueError):
            raise ValueError(f"success_at={success_at!r}; expected a list of distances above 0") from None
        self.success_at = success_at
        self.space: Space = space
        self.reduction: Reduction = reduction
        self.threshold = threshold
        if stride is not None and not stride > 0:
            raise ValueError(f"stride={stride!r}; expected a positive number, or None for that of the codec")
        self.stride = stride
        self._pixels_per_cell: np.ndarray | float | None = stride
        self.outfile = outfile

    def use_codec(self, codec: Any) -> None:
        """Take the size of heatmap pixels from a codec, unless ``stride`` was given."""
        if self.stride is None:
            self._pixels_per_cell = pixels_per_cell(codec)
        if self.space == "heatmap" and self._pixels_per_cell is None:
            raise ValueError(
                f"LandmarkMetric counts in heatmap pixels, but {type(codec).__name__} makes no heatmaps: set "
                "space='input', 'image' or 'mm' in val_evaluator and test_evaluator, or a stride (input pixels per "
                "pixel)"
            )

    def check_data(self, dataset: Any) -> None:
        """Raise ``ValueError`` if errors are in millimetres, and an image of the data set does not state its scale.

        Where this is known only after the pipeline has run, as in a ``CombinedDataset``, :meth:`process` raises.
        """
        if self.space == "mm" and hasattr(dataset, "get_data_info"):
            for index in range(len(dataset)):
                sample = dataset.get_data_info(index)
                if "raw_ann_info" not in sample:
                    return
                _mm_per_pixel(sample)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the points of a batch."""
        for sample in data_samples:
            truth = sample["gt_instances"]
            visible = np.asarray(truth["keypoints_visible"])[0]
            self.results.append(
                {
                    "image": str(sample["img_path"]),
                    "predicted": np.asarray(sample["pred_instances"]["keypoints"])[0, :, :2],
                    "target": np.asarray(truth["keypoints"])[0, :, :2],
                    "visible": (visible if visible.ndim == 1 else visible[:, 0]) > 0,
                    "scale": self._scale(sample),
                    "extent": self._extent(sample),
                }
            )

    def _scale(self, sample: dict[str, Any]) -> np.ndarray:
        """The factors that convert image pixels (x, y) to the unit of ``space``."""
        if self.space == "image":
            return np.ones(2)
        if self.space == "mm":
            return np.full(2, _mm_per_pixel(sample))
        return self._extent(sample) / np.asarray(sample["input_scale"], dtype=float)

    def _extent(self, sample: dict[str, Any]) -> np.ndarray | None:
        """Width and height of the network's input in the unit of ``space``; None for ``'image'`` and ``'mm'``."""
        if self.space in ("image", "mm"):
            return None
        input_size = np.asarray(sample["input_size"], dtype=float)
        if self.space == "input":
            return input_size
        if self._pixels_per_cell is None:
            raise ValueError(
                "LandmarkMetric counts in heatmap pixels, but their size is unknown: add "
                "dict(type='CrossTaskHook') to custom_hooks, or give it a stride (input pixels per heatmap pixel)"
            )
        return input_size / self._pixels_per_cell

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """The scores over all images."""
        arrays = {key: np.stack([r[key] for r in results]) for key in ("predicted", "target", "visible", "scale")}
        found = Predictions(
            images=[result["image"] for result in results],
            landmarks=self._landmarks(arrays["target"].shape[1]),
            reading=self._reading(results[0]["extent"]),
            **arrays,
        )
        scores = found.scores
        print_log(str(scores), logger="current")
        if self.outfile is not None:
            found.write(Path(self.outfile))
        rates = {f"SDR@{distance:g}": 100 * rate for distance, rate in found.success_rates.items()}
        return {"ME": scores.me, "SD": scores.sd, "FR": 100 * scores.fr, "AUC": scores.auc, **rates}

    def _reading(self, extent: np.ndarray | None) -> Reading:
        of_network = None if extent is None else extent.tolist()
        return Reading(self.reduction, self.space, self.threshold, self.success_at, of_network)

    def _landmarks(self, count: int) -> list[str]:
        """The names of the landmarks, or else their numbers from 1."""
        return names_in(self.dataset_meta or {}) or [str(number) for number in range(1, count + 1)]


def _mm_per_pixel(sample: dict[str, Any]) -> float:
    known = sample.get("raw_ann_info", {}).get(MM_PER_PIXEL)
    if known is None:
        raise ValueError(
            f"LandmarkMetric counts in mm, but the pixel size of {sample['img_path']} is unknown: its entry in "
            "the annotation file lacks 'mm_per_pixel' (convert-landmarks writes it from a column of that name, or "
            "--mm-per-pixel), or the data set is not a LandmarkDataset"
        )
    return float(known)
