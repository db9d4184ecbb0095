"""What the teacher adds to a whole job: MMPose's tools/train.py with FT, CTD-ED, and CTD-ED with a teacher in bfloat16.

Synthetic faces and an untrained ResNet-50 as source, as time does not depend on what it knows. Each method trains some
epochs and validates after the last; the log says how long a step took, and for how long of it the data was waited for.

    OMP_NUM_THREADS=2 python benchmarks/job_cost.py
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from provenance import provenance

from xtask_reg.data import synthetic
from xtask_reg.integrations.mmpose import caffe_resnet
from xtask_reg.integrations.mmpose.tools import run_tool
from xtask_reg.integrations.mmpose_files import configs
from xtask_reg.sources import save_weights

RESULTS = Path(__file__).parent / "results" / "job_cost.json"
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "FT": ("ft", {}),
    "CTD-ED": ("ctd-ed", {}),
    "CTD-ED, teacher in bfloat16": ("ctd-ed", {"model.teacher.dtype": "bfloat16"}),
}
WARM_UP = 2
"""Steps of each epoch that are left out: the workers start in them."""


def prepare(folder: Path, images: int) -> dict[str, object]:
    """Write faces and source; the ``--cfg-options`` that name them."""
    for split, people in {"train": range(images), "val": range(1000, 1000 + images // 2)}.items():
        synthetic.write_landmark_set(folder / "faces", people, 1, 256, split=split)
    torch.manual_seed(0)
    weights = {
        **caffe_resnet.CaffeResNet(50).state_dict(),
        "fc.weight": torch.zeros(2, 2048),
        "fc.bias": torch.zeros(2),
    }
    save_weights(weights, folder / "source.safetensors")
    chosen: dict[str, object] = {"model.backbone.init_cfg.checkpoint": folder / "source.safetensors"}
    chosen |= {f"{split}_dataloader.dataset.data_root": folder / "faces" for split in ("train", "val")}
    return chosen


def run(method: str, folder: Path, options: dict[str, object], epochs: int) -> dict[str, Any]:
    """Train with one method; what its log says of time."""
    name, own = METHODS[method]
    config = configs() / f"td-hm_res50_{name}_landmarks-256x256.py"
    work = folder / name / str(len(own))
    every = {"default_hooks.logger.interval": 1, "log_processor.window_size": 1}
    length = {"train_cfg.max_epochs": epochs, "train_cfg.val_interval": epochs}
    start = time.monotonic()
    run_tool("train", [str(config), "--work-dir", str(work)], {**options, **own, **every, **length}, work / "train.txt")
    return {"job_seconds": round(time.monotonic() - start, 1), **times(work)}


def times(work: Path) -> dict[str, Any]:
    """Seconds of each step and of the validation, and how much of it the data took, from a work folder's log."""
    (file,) = work.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    first = {line["epoch"]: line["step"] for line in reversed(steps)}
    steady = [line for line in steps if line["step"] >= first[line["epoch"]] + WARM_UP]
    (validation,) = [line for line in lines if "landmark/ME" in line]
    return {
        "step_seconds": [round(line["time"], 4) for line in steady],
        "data_seconds": [round(line["data_time"], 4) for line in steady],
        "validation": {key: round(validation[key], 4) for key in ("time", "data_time")},
    }


def main() -> None:
    """Run all methods and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24, help="to train on, two a step")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options = prepare(Path(folder), arguments.images)
        runs = {name: run(name, Path(folder), options, arguments.epochs) for name in METHODS}
    threads = os.environ.get("OMP_NUM_THREADS")
    settings = {"batch": 2, "images": arguments.images, "epochs": arguments.epochs, "OMP_NUM_THREADS": threads}
    arguments.results.write_text(json.dumps({"settings": settings, "runs": runs, **provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
