"""Numbers and pictures of synthetic faces in README and docs: the demonstration's methods and FE.

python benchmarks/synthetic_faces.py
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
from provenance import provenance
from rich.console import Console

from xtask_reg.data import synthetic
from xtask_reg.demo.run import METHODS, Demo

REPOSITORY = Path(__file__).parent.parent
IMAGES = REPOSITORY / "docs" / "images"


def contact_sheet(rows: int = 3, columns: int = 8, size: int = 128) -> np.ndarray:
    """Different people in different views, RGB."""
    faces = [
        synthetic.render(synthetic.Identity.from_seed(number), synthetic.View.from_seed(number), size).image
        for number in range(rows * columns)
    ]
    return np.vstack([np.hstack(faces[row * columns : (row + 1) * columns]) for row in range(rows)])


def write_jpeg(name: str, picture: np.ndarray) -> None:
    """Write a BGR picture for the docs."""
    cv2.imwrite(str(IMAGES / f"{name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])


def main() -> None:
    """Run the demonstration with FE, and keep its results and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/synthetic-faces"), help="folder for the runs")
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    made_by = provenance()
    Demo(arguments.out, arguments.epochs, Console(), ["FE", *METHODS]).run()
    results = json.loads((arguments.out / "results.json").read_text())
    (REPOSITORY / "benchmarks" / "results" / "synthetic_faces.json").write_text(
        json.dumps({**made_by, "seed": 0, **results}, indent=1) + "\n"
    )
    IMAGES.mkdir(exist_ok=True)
    write_jpeg("faces", contact_sheet()[..., ::-1])
    write_jpeg("qualitative", cv2.imread(str(arguments.out / "qualitative.png")))
    shutil.copy(arguments.out / "ced.png", IMAGES / "ced.png")


if __name__ == "__main__":
    main()
