"""Does a landmark's confidence, the height of its heatmap's peak, predict its error? On held-out synthetic faces.

python benchmarks/confidence.py

The network is FT of the demonstration. It sees each face twice: unchanged, and with a grey square over the mouth.
Errors are in heatmap pixels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from provenance import provenance
from rich.console import Console
from scipy.stats import spearmanr

from xtask_reg.data import synthetic
from xtask_reg.data.synthetic.landmarks import LANDMARK_NAMES
from xtask_reg.demo.run import SIZE, Demo
from xtask_reg.integrations.mmpose.predict import predict
from xtask_reg.integrations.mmpose.student import load_student
from xtask_reg.landmarks.face_picture import face_picture
from xtask_reg.landmarks.faces import Face

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results" / "confidence.json"
PICTURE = REPOSITORY / "docs" / "images" / "predict.jpg"
SHOWN = 3
"""Index of the face in the picture."""

PEOPLE = range(4000, 4120)
STRIDE = 4
FAILURE = 1.2
MOUTH = slice(LANDMARK_NAMES.index("mouth_left"), None)


def write_faces(folder: Path) -> tuple[list[Path], np.ndarray]:
    """The image files and their landmarks ``(N, 14, 2)``."""
    content = json.loads(synthetic.write_landmark_set(folder, PEOPLE, 1, SIZE, seed=1, split="held_out").read_text())
    points = np.array([np.reshape(a["keypoints"], (14, 3))[:, :2] for a in content["annotations"]])
    return [folder / image["file_name"] for image in content["images"]], points


def covered(file: Path, points: np.ndarray, folder: Path) -> Path:
    """The face with a grey square over its mouth."""
    image = cv2.imread(str(file))
    left, top = (points[MOUTH].min(axis=0) - 6).astype(int).clip(0)
    right, bottom = (points[MOUTH].max(axis=0) + 7).astype(int)
    image[top:bottom, left:right] = 128
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / file.name), image)
    return folder / file.name


def summary(confidence: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """Rank correlations of ``(N, K)`` confidences and errors, and errors by fifths of the confidence."""
    order = np.argsort(confidence, axis=None)
    fifths = [(confidence.flat[part], errors.flat[part]) for part in np.array_split(order, 5)]
    return {
        "rank_correlation": {
            "points": _rank(confidence, errors),
            "images": _rank(confidence.mean(axis=1), errors.mean(axis=1)),
            "one_landmark": {name: _rank(confidence[:, k], errors[:, k]) for k, name in enumerate(LANDMARK_NAMES)},
        },
        "fifths": [
            {
                "confidence": [float(own.min()), float(own.max())],
                "mean_error": float(error.mean()),
                "above_threshold": float((error > FAILURE).mean()),
            }
            for own, error in fifths
        ],
    }


def _rank(confidence: np.ndarray, errors: np.ndarray) -> float:
    return float(spearmanr(confidence, errors, axis=None).statistic)


def markdown_table(results: Mapping[str, Any]) -> str:
    """One row per fifth of the points, from least to most confident, for both kinds of faces."""
    kinds = " | ".join(
        f"{kind}: confidence | mean error | above {FAILURE}" for kind in ("as they are", "mouth covered")
    )
    rows = [f"| points | {kinds} |", "|---|---|---|---|---|---|---|"]
    names = ("least confident fifth", "second", "third", "fourth", "most confident fifth")
    for name, *both in zip(names, results["as they are"]["fifths"], results["mouth covered"]["fifths"]):
        cells = [
            f"{part['confidence'][0]:.2f} to {part['confidence'][1]:.2f} | {part['mean_error']:.2f} | "
            f"{part['above_threshold']:.0%}"
            for part in both
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def sentence(results: Mapping[str, Any]) -> str:
    """The rank correlations, and the effect of covering the mouth."""
    kinds = [results[kind] for kind in ("as they are", "mouth covered")]
    plain, hidden = (kind["rank_correlation"] for kind in kinds)
    before, after = (kind["median_confidence"]["mouth"] for kind in kinds)
    return (
        f"The rank correlation (Spearman) of confidence and error over all points is {plain['points']:.2f}, and "
        f"{hidden['points']:.2f} with the mouth covered; of an image's mean confidence and mean error, "
        f"{plain['images']:.2f} and {hidden['images']:.2f}. Covering the mouth takes the median confidence of its five "
        f"points from {before:.2f} to {after:.2f}, and their mean error from {kinds[0]['mean_error']['mouth']:.2f} to "
        f"{kinds[1]['mean_error']['mouth']:.2f}."
    )


def main() -> None:
    """Train, or reuse an existing demonstration; write ``results/confidence.json`` and a picture for the docs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/confidence"), help="folder for the run and the faces")
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    made_by = provenance()
    Demo(arguments.out, arguments.epochs, Console(), ["FT"]).run()
    run = arguments.out / "ft"
    model = load_student(next(run.glob("*.py")), run / f"epoch_{arguments.epochs}.pth")
    files, points = write_faces(arguments.out / "held_out")
    hidden = [covered(*each, arguments.out / "covered") for each in zip(files, points)]
    pictures = []
    results: dict[str, Any] = {**made_by, "seed": 0, "epochs": arguments.epochs, "faces": len(files)}
    for kind, images in (("as they are", files), ("mouth covered", hidden)):
        found = [face for batch in predict(model, [Face(image) for image in images]) for face in batch]
        pictures.append(face_picture(found[SHOWN], cv2.imread(str(images[SHOWN]))[..., ::-1]))
        errors = np.linalg.norm(np.stack([face.points for face in found]) - points, axis=2) / STRIDE
        confidence = np.stack([face.confidence for face in found])
        part = np.zeros(len(LANDMARK_NAMES), dtype=bool)
        part[MOUTH] = True
        places = {"mouth": part, "elsewhere": ~part}
        medians = {place: float(np.median(confidence[:, own])) for place, own in places.items()}
        means = {place: float(errors[:, own].mean()) for place, own in places.items()}
        results[kind] = {**summary(confidence, errors), "median_confidence": medians, "mean_error": means}
    cv2.imwrite(str(PICTURE), np.vstack(pictures)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(markdown_table(results))
    print(sentence(results))


if __name__ == "__main__":
    main()
