"""FT and CTD-ED for segmenting face parts, from a face-recognition source, with segmentation_models_pytorch.

On synthetic faces, for which no data is needed; or on the Face Research Lab faces, see docs/smp.md:
    python benchmarks/face_parts.py
    python benchmarks/face_parts.py --data-root DATA
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parts import training
from parts.datasets import Case, frl_case, synthetic_case
from parts.picture import plot_masks
from parts.report import METHODS, markdown_table, sentence
from provenance import provenance

from xtask_reg.segmentation import dice_per_image
from xtask_reg.whole_file import replace_file

REPOSITORY = Path(__file__).parent.parent
SIZE = 96
EPOCHS = {"synthetic": (6, 45), "frl": (4, 10)}
"""Epochs of the source network and of each method."""
DATA = {
    "synthetic": "synthetic faces of 24 people to train on and 60 to test, source: 30 other people",
    "frl": "Face Research Lab, London (doi 10.6084/m9.figshare.5047666.v5) and Canadian set "
    "(doi 10.6084/m9.figshare.4220517.v1), CC BY 4.0; source: 158 people of Labeled Faces in the Wild",
}


def compare(case: Case, seeds: int, source_epochs: int, epochs: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train and test each method with each seed; the result, and the masks that seed 0 predicts."""
    start = time.process_time()
    source, score = training.train_source(case.identities, source_epochs)
    print(f"source network: {score:.0%} of held-out images; {time.process_time() - start:.0f} s", flush=True)
    runs, pictures = [], {}
    for seed in range(seeds):
        for method in METHODS:
            begin = time.process_time()
            model = training.train(method, source, case, seed, epochs)
            seconds = time.process_time() - begin
            masks = training.predict(model, case.test.images).numpy()
            dice = dice_per_image(masks, case.test.masks.numpy(), len(case.classes))
            rounded = [[None if np.isnan(each) else round(each, 4) for each in image] for image in dice.tolist()]
            runs.append({"method": method, "seed": seed, "seconds": round(seconds, 1), "dice": rounded})
            pictures.setdefault(method, masks)
            print(f"{method}, seed {seed}: Dice {np.nanmean(dice, axis=0)[1:].mean():.3f}; {seconds:.0f} s", flush=True)
    facts = {"network": "resnet18", "epochs": source_epochs, "held_out_accuracy": round(score, 4)}
    settings = {"size": SIZE, "epochs": epochs, "batch": training.BATCH, "lr": training.LR, "ratio": training.RATIO}
    images = {"train": len(case.train.images), "test": len(case.test.images)}
    return {"classes": case.classes, "images": images, "source": facts, "settings": settings, "runs": runs}, pictures


def main() -> None:
    """Run one case, print the table, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="folder with frl/ and lfw158/; synthetic faces without")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=REPOSITORY, help="where benchmarks/results and docs/images are")
    arguments = parser.parse_args()
    made_by = provenance()
    torch.set_num_threads(1)
    name = "frl" if arguments.data_root else "synthetic"
    with tempfile.TemporaryDirectory() as folder:
        case = frl_case(arguments.data_root, SIZE) if arguments.data_root else synthetic_case(Path(folder), SIZE)
    results, predicted = compare(case, arguments.seeds, *EPOCHS[name])
    print(markdown_table(results), sentence(results), sep="\n\n")
    _write(
        arguments.out / "benchmarks" / "results" / f"face_parts_{name}.json",
        {"data": DATA[name], **made_by, **results},
    )
    if name == "synthetic":
        picture = arguments.out / "docs" / "images" / "face_parts.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        plot_masks(case.test, predicted, len(case.classes)).savefig(picture, dpi=90)


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, f"{json.dumps(results)}\n".encode())


if __name__ == "__main__":
    main()
