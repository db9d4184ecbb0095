"""A face in a COCO-style landmark file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def coco_annotation(
    number: int, image: int, box: Sequence[float], points: np.ndarray, visibility: np.ndarray
) -> dict[str, Any]:
    """The annotation of a face.

    Args:
        number: its id.
        image: the id of its image.
        box: left, top, width and height in pixels.
        points: ``(K, 2)``, x and y in pixels, written with four decimals.
        visibility: ``(K,)``, 2 or, where a point is not annotated, 0.
    """
    places = np.asarray(points, dtype=float).round(4).tolist()
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": 0,
        "num_keypoints": int(np.count_nonzero(visibility)),
        "keypoints": [value for (x, y), seen in zip(places, visibility.tolist()) for value in (x, y, seen)],
    }
