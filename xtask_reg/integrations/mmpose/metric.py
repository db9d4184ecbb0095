"""The paper's metrics as an MMPose evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmpose.registry import METRICS

from xtask_reg.landmarks import image_errors, score_images
from xtask_reg.landmarks.metrics import Reduction, Space
from xtask_reg.landmarks.predictions import Predictions


@METRICS.register_module()
class LandmarkMetric(BaseMetric):
    """ME, SD, FR (in percent) and AUC over images, see :mod:`xtask_reg.landmarks.metrics`.

    Args:
        space: pixels in which errors count: of the ``'heatmap'`` (the likelier reading of Fu et al.), of the network's
            ``'input'``, or of the original ``'image'``.
        reduction: ``'mean_distance'`` or ``'vector_norm'``.
        threshold: an image whose error is greater is a failure.
        stride: input pixels per heatmap pixel.
        outfile: JSON file for the points and the error of each image; None for none.
    """

    default_prefix = "landmark"

    def __init__(
        self,
        space: Space = "heatmap",
        reduction: Reduction = "mean_distance",
        threshold: float = 1.2,
        stride: float = 4.0,
        outfile: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        score_images(np.zeros(1), reduction=reduction, space=space, threshold=threshold)
        self.space: Space = space
        self.reduction: Reduction = reduction
        self.threshold = threshold
        self.stride = stride
        self.outfile = outfile

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
                }
            )

    def _scale(self, sample: dict[str, Any]) -> np.ndarray:
        """What image pixels (x, y) are multiplied with to count in ``space``."""
        if self.space == "image":
            return np.ones(2)
        to_input = np.asarray(sample["input_size"], dtype=float) / np.asarray(sample["input_scale"], dtype=float)
        return to_input if self.space == "input" else to_input / self.stride

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """The scores over all images."""
        scales = np.stack([result["scale"] for result in results])[:, None]
        predicted, target, visible = (np.stack([r[key] for r in results]) for key in ("predicted", "target", "visible"))
        errors = image_errors(predicted * scales, target * scales, visible, self.reduction)
        scores = score_images(errors, reduction=self.reduction, space=self.space, threshold=self.threshold)
        print_log(str(scores), logger="current")
        if self.outfile is not None:
            names = [result["image"] for result in results]
            reading = (self.reduction, self.space, self.threshold)
            Predictions(names, predicted, target, visible, errors, *reading).write(Path(self.outfile))
        return {"ME": scores.me, "SD": scores.sd, "FR": 100 * scores.fr, "AUC": scores.auc}
