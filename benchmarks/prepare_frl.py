"""Converts faces with WebMorph templates to COCO-style landmark files, split by person 60 : 10 : 30.

Its input is folders with NAME.jpg and NAME.tem; the part of NAME before the first "_" is the person:
    python benchmarks/prepare_frl.py london canada DATA/frl
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = 256
MARGIN = 1.2
POINTS = 189
SUBSET = {
    "index": [18, 22, 23, 27, 55, 170, 171, 172, 173, 87, 89, 90, 91, 93],
    "flip": [3, 2, 1, 0, 4, 7, 8, 5, 6, 13, 12, 11, 10, 9],
}
"""Indices of eye corners, nose bottom, philtrum, mouth corners and upper lip in the template; their mirror images."""


def read_template(path: Path) -> np.ndarray:
    """The points ``(189, 2)`` of a .tem file, which has their number, then x and y of each; ``#`` begins a comment."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    points = np.array([line.split()[:2] for line in lines[1 : 1 + int(lines[0])]], dtype=float)
    if points.shape != (POINTS, 2):
        raise ValueError(f"{path}: {len(points)} points; expected the {POINTS} of the FRL template")
    return points


def crop(image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A square around the points, scaled to ``SIZE``, and the points in it; the border is repeated beyond the image."""
    low, high = points.min(0), points.max(0)
    side = round(MARGIN * (high - low).max())
    left, top = ((low + high) / 2 - side / 2).round().astype(int)
    padded = cv2.copyMakeBorder(image, side, side, side, side, cv2.BORDER_REPLICATE)
    square = padded[top + side : top + 2 * side, left + side : left + 2 * side]
    scale = SIZE / side
    return cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_AREA), (points - (left, top) + 0.5) * scale - 0.5


def split_people(people: list[str]) -> dict[str, list[str]]:
    """Train, val and test, always the same for the same people."""
    shuffled = sorted(people)
    random.Random(0).shuffle(shuffled)
    first, second = round(0.6 * len(shuffled)), round(0.7 * len(shuffled))
    return {"train": shuffled[:first], "val": shuffled[first:second], "test": shuffled[second:]}


def category() -> dict[str, Any]:
    """The COCO category: all points, named by number, with the mirror images of those in the subset."""
    flip = list(range(POINTS))
    for index, mirrored in zip(SUBSET["index"], SUBSET["flip"]):
        flip[index] = SUBSET["index"][mirrored]
    names = [f"point {number}" for number in range(POINTS)]
    return {"id": 1, "name": "face", "keypoints": names, "skeleton": [], "flip_index": flip}


def write_split(out: Path, split: str, files: list[Path]) -> None:
    """Write the images of a split, then its JSON."""
    images, annotations = [], []
    for number, file in enumerate(files):
        image = cv2.imread(str(file))
        if image is None:
            raise ValueError(f"{file} is no readable image")
        picture, points = crop(image, read_template(file.with_suffix(".tem")))
        name = f"images/{file.parent.name}_{file.stem}.jpg"
        cv2.imwrite(str(out / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
        inside = ((points >= 0) & (points < SIZE)).all(1)
        keypoints = np.column_stack([points, 1 + inside]).round(3).flatten().tolist()
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE})
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [0, 0, SIZE, SIZE], "area": SIZE**2}
            | {"iscrowd": 0, "num_keypoints": POINTS, "keypoints": keypoints}
        )
    content = {"images": images, "annotations": annotations, "categories": [category()]}
    (out / f"{split}.json").write_text(json.dumps(content))


def main() -> None:
    """Convert all folders into one landmark set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of images and templates")
    parser.add_argument("out", type=Path, help="folder to write")
    arguments = parser.parse_args()
    templates = sorted(path for folder in arguments.folders for path in folder.glob("*.tem"))
    if not templates:
        parser.error(f"no .tem files in {', '.join(map(str, arguments.folders))}")
    by_person: dict[str, list[Path]] = {}
    for path in templates:
        by_person.setdefault(f"{path.parent.name}_{path.stem.split('_')[0]}", []).append(path.with_suffix(".jpg"))
    (arguments.out / "images").mkdir(parents=True, exist_ok=True)
    for split, people in split_people(list(by_person)).items():
        write_split(arguments.out, split, [file for person in people for file in by_person[person]])
    (arguments.out / "subsets.json").write_text(json.dumps({"pfl_philtrum_lip14": SUBSET}))


if __name__ == "__main__":
    main()
