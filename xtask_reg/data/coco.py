"""COCO-style landmark files: their checks, and the landmarks that they describe."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MM_PER_PIXEL = "mm_per_pixel"
"""Optional field of an image: the size of its pixels in millimetres."""
FIELDS: dict[str, tuple[str, ...]] = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "keypoints"),
}


@dataclass(frozen=True)
class LandmarkNames:
    """Names of the landmarks in file order, all different, and for each the index of its mirror image.

    ``category`` is what they are landmarks of, as the file says it.
    """

    names: tuple[str, ...]
    flip: tuple[int, ...]
    category: str

    def select(self, indices: Sequence[int]) -> LandmarkNames:
        """The landmarks at ``indices``; one whose mirror image is not among them becomes its own.

        Raises:
            ValueError: for an index that is out of range or given twice.
        """
        known = all(isinstance(index, int) and 0 <= index < len(self.names) for index in indices)
        if not indices or not known or len(set(indices)) < len(indices):
            raise ValueError(f"subset {list(indices)}: expected different indices between 0 and {len(self.names) - 1}")
        place = {index: new for new, index in enumerate(indices)}
        flip = tuple(place.get(self.flip[index], place[index]) for index in indices)
        return LandmarkNames(tuple(self.names[index] for index in indices), flip, self.category)


def landmark_names(path: Path) -> LandmarkNames:
    """The names and flip pairs in a landmark file; a repeated name gets its index appended.

    Raises:
        ValueError: if the flip pairs are not mutual, or two names are alike even so.
    """
    category = _read(path)["categories"][0]
    given = category["keypoints"]
    names = tuple(name if given.count(name) == 1 else f"{name} ({index})" for index, name in enumerate(given))
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: landmark names are not unique, even with their index added: {sorted(set(given))}")
    stated = category.get("flip_index") or range(len(names))
    flip = tuple(stated) if isinstance(stated, (list, range)) else (stated,)
    faults = _not_mutual(flip)
    if len(flip) != len(names) or faults:
        raise ValueError(
            f"{path}: flip_index must pair the {len(names)} landmarks mutually; "
            f"it has {len(flip)} entries, not mutual at indices {faults[:10]}"
        )
    return LandmarkNames(names, flip, str(category.get("name", "landmarks")))


def is_pairing(flip: Sequence[object], count: int) -> bool:
    """Whether ``flip`` pairs ``count`` landmarks mutually with their mirror images."""
    return len(flip) == count and not _not_mutual(flip)


def _not_mutual(flip: Sequence[object]) -> list[int]:
    return [i for i, j in enumerate(flip) if not (isinstance(j, int) and 0 <= j < len(flip) and flip[j] == i)]


def difference(names: Sequence[str], others: Sequence[str]) -> str:
    """How two lists of landmark names differ: in their length, or in the first name that differs."""
    if len(names) != len(others):
        return f"has {len(names)} landmarks; there are {len(others)}"
    index = next(index for index, (name, other) in enumerate(zip(names, others)) if name != other)
    order = "has the landmarks in another order" if sorted(names) == sorted(others) else "has other landmarks"
    return f"{order}: landmark {index} is {names[index]!r}; it is {others[index]!r}"


def read_subset(path: Path, name: str) -> list[int]:
    """The landmark indices that an entry ``name`` of a JSON file gives as ``{"index": [...]}``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there is no such entry.
    """
    subsets = _read(path)
    if name not in subsets or "index" not in subsets[name]:
        raise ValueError(f"{path}: no subset {name!r} with an 'index'; it has {sorted(subsets)}")
    return list(subsets[name]["index"])


def check_landmark_file(path: Path) -> dict[str, Any]:
    """The content of a COCO-style landmark file, after checks.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON, lacks a field, repeats an id, has a value of another kind or that is not finite,
            a pixel size that is not positive, not as many points as names, or an annotation of an image that it does
            not list or of another category than the first.
    """
    content = _read(path)
    for part in ("images", "annotations", "categories"):
        entries = content.get(part)
        if not (isinstance(entries, list) and entries and all(isinstance(entry, dict) for entry in entries)):
            raise ValueError(f"{path}: {part!r} is missing or empty; expected the list of a COCO-style landmark file")
    names = content["categories"][0].get("keypoints")
    if not (isinstance(names, list) and all(isinstance(name, (str, int)) for name in names)):
        raise ValueError(f"{path}: categories[0] has no 'keypoints' (the list of the names of the landmarks)")
    if "id" not in content["categories"][0]:
        raise ValueError(f"{path}: categories[0] has no 'id'")
    for part, fields in FIELDS.items():
        for index, entry in enumerate(content[part]):
            missing = [field for field in fields if entry.get(field) is None]
            if missing:
                raise ValueError(f"{path}: {part}[{index}] lacks {missing}")
    for index, image in enumerate(content["images"]):
        _check_image(image, f"{path}: images[{index}]")
    _check_ids(content, path)
    for index, annotation in enumerate(content["annotations"]):
        _check_points(annotation, len(names), f"{path}: annotations[{index}]")
    return content


def _check_ids(content: dict[str, Any], path: Path) -> None:
    images, annotations = content["images"], content["annotations"]
    for part in ("images", "annotations"):
        ids = [entry["id"] for entry in content[part]]
        if not all(isinstance(number, int) for number in ids) or len(set(ids)) < len(ids):
            repeated = [number for number, times in Counter(map(str, ids)).items() if times > 1]
            raise ValueError(
                f"{path}: the ids of the {part} must be different whole numbers; repeated: {repeated[:5] or 'none'}"
            )
    listed = {image["id"] for image in images}
    named = [entry["image_id"] for entry in annotations]
    unknown = [image for image in named if not (_is_finite(image) and image in listed)]
    if unknown:
        raise ValueError(f"{path}: annotations refer to images that are not listed: image_id {unknown[:5]}")
    first = content["categories"][0]["id"]
    others = [entry["category_id"] for entry in annotations if entry["category_id"] != first]
    if others:
        raise ValueError(
            f"{path}: there are annotations of category_id {others[:5]}; all must be of the first category, {first!r}, "
            "which names the landmarks: keep each kind of object in a file of its own"
        )


def _check_image(image: dict[str, Any], where: str) -> None:
    name, size = image["file_name"], (image["width"], image["height"])
    spacing = image.get(MM_PER_PIXEL, 1)
    if not (_is_finite(spacing) and spacing > 0):
        raise ValueError(f"{where} has {MM_PER_PIXEL} {spacing!r}; expected a number above 0, or no such field")
    if not (isinstance(name, str) and all(map(_is_finite, size))):
        raise ValueError(f"{where} has file_name {name!r}, width and height {size}; expected a text and two numbers")


def _check_points(annotation: dict[str, Any], count: int, where: str) -> None:
    values, box = annotation["keypoints"], annotation["bbox"]
    if not (isinstance(values, list) and isinstance(box, list)):
        raise ValueError(f"{where}: keypoints and bbox must be lists of numbers")
    if len(values) != 3 * count:
        raise ValueError(f"{where} has {len(values)} keypoint values; expected 3 x {count} (x, y, visibility)")
    numbers = [*values, *box]
    if not all(map(_is_finite, numbers)):
        raise ValueError(f"{where} has a keypoint or bbox value that is not a finite number")
    if not set(values[2::3]) <= {0, 1, 2}:
        raise ValueError(f"{where} has visibilities {sorted(set(values[2::3]))}; expected 0, 1 or 2 for each keypoint")
    if len(box) != 4 or min(box[2:]) <= 0:
        raise ValueError(f"{where} has bbox {box}; expected [x, y, width, height] with positive sizes")


def _is_finite(value: object) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"annotation file {path} does not exist or is not a file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a JSON object")
    return content
