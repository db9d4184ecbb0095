"""FT and CTD-ED on real faces, from a published face-recognition network, with MMPose's tools.

Needs the Face Research Lab faces and dlib's network, see docs/real-data.md:
    python benchmarks/real_data.py --data-root DATA
"""

from __future__ import annotations

import argparse
import functools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provenance import provenance
from tqdm import tqdm

from xtask_reg.demo.stages import Stage
from xtask_reg.integrations.mmpose.tools import read_config, train_and_test
from xtask_reg.integrations.mmpose_files import configs
from xtask_reg.landmarks.predictions import markdown_table, read_predictions

SYSTEMS = {"FT": "ft", "CTD-ED": "ctd-ed"}
LEARNING_RATES = (1e-4, 2e-4)
SUBSET = "pfl_philtrum_lip14"
RESULTS = Path(__file__).parent / "results" / "real_data.json"


def options(data_root: Path, lr: float) -> dict[str, Any]:
    """The ``--cfg-options`` of a run."""
    frl, source = data_root / "frl", data_root / "sources" / "dlib_face_resnet29_128d.pth"
    chosen: dict[str, Any] = {"model.backbone.init_cfg.checkpoint": source}
    chosen["optim_wrapper.optimizer.lr"] = lr
    for split in ("train", "val", "test"):
        dataset = f"{split}_dataloader.dataset"
        chosen |= {
            f"{dataset}.data_root": frl,
            f"{dataset}.subset.file": "subsets.json",
            f"{dataset}.subset.name": SUBSET,
        }
    return chosen | {"train_dataloader.batch_size": 4}


def run(system: str, lr: float, data_root: Path, out: Path, epochs: int, place: int) -> Stage:
    """Train and test one system, unless that is already done."""
    config = configs() / "dlib" / f"td-hm_dlib29_{SYSTEMS[system]}_landmarks-128x128.py"
    chosen = options(data_root, lr)
    stage = Stage(out / f"{SYSTEMS[system]}_lr{lr:g}", [epochs, read_config(config).pretty_text, chosen])
    if not stage.complete:
        with tqdm(total=epochs, desc=f"{system}, lr {lr:g}", position=place, unit="epoch") as bar:
            progress = functools.partial(_advance, bar)
            stage.finish(train_and_test(config, stage.folder, chosen, epochs, progress, threads=1))
    return stage


def _advance(bar: tqdm, epoch: int) -> None:
    bar.update(epoch - bar.n)


def main() -> None:
    """Run all systems, print the table and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with frl/ and sources/")
    parser.add_argument("--out", type=Path, default=Path("runs/real-data"), help="folder for the runs")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, one CPU thread each")
    arguments = parser.parse_args()
    made_by = provenance()
    cells = [(system, lr) for lr in LEARNING_RATES for system in SYSTEMS]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        where = (arguments.data_root, arguments.out, arguments.epochs)
        jobs = [pool.submit(run, *cell, *where, place) for place, cell in enumerate(cells)]
        stages = {f"{system}, lr {lr:g}": job.result() for (system, lr), job in zip(cells, jobs)}
    predictions = {name: read_predictions(stage.folder / "predictions.json") for name, stage in stages.items()}
    scores = {name: prediction.scores for name, prediction in predictions.items()}
    seconds = {name: stage.result for name, stage in stages.items()}
    print(markdown_table(scores, seconds))
    runs = {
        name: {**asdict(scores[name]), "seconds": seconds[name], "errors": predictions[name].errors.tolist()}
        for name in stages
    }
    facts = {"data": f"FRL {SUBSET}", "source": "dlib ResNet-29", "epochs": arguments.epochs, "seed": 0}
    RESULTS.write_text(json.dumps({**facts, **made_by, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
