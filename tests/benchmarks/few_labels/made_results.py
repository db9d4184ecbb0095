"""Made-up results with known differences."""

from __future__ import annotations

import csv
import dataclasses

import cv2
from grid.cell import Cell
from grid.tuning import tuning_cells

IMAGES = [f"face{number}" for number in range(10)]
FOLDS = [{f"face{number}" for number in (fold, fold + 5)} for fold in range(5)]


def line(cell, errors, **more):
    """A result line of a cell, with the errors of its images."""
    known = {"me": 0.0, "me_argmax": 0.5, "seconds": 10.0, "curve": [1.0, 0.5]}
    return {**dataclasses.asdict(cell), **known, "errors": errors, **more}


def tune(results, method, error, **more):
    """Add the whole tuning of a method, its errors by setting, fold and image."""
    for cell in tuning_cells(grid_cell(method, 0, **more)):
        tested = [image for image in IMAGES if image not in FOLDS[cell.fold]]
        results.add(line(cell, {image: error(cell.setting, cell.fold, image) for image in tested}))


def grid_cell(method, fold, **more):
    """A cell of the grid."""
    return Cell("frl14", "dlib", more.pop("teacher", "none"), method, more.pop("n_labels", 20), fold, **more)


def write_identities(root, images, people, seen):
    """A small ``lfw158``: RGB images ``(N, H, W, 3)`` of named people, the first ``seen`` in the training split."""
    folder = root / "lfw158"
    folder.mkdir(parents=True)
    with (folder / "identities.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split", "identity"])
        for number, (image, name) in enumerate(zip(images, people, strict=True)):
            cv2.imwrite(str(folder / f"{number}.png"), image[:, :, ::-1])
            rows.writerow([f"{number}.png", "train" if number < seen else "test", name])
