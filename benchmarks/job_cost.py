"""What the teacher adds to a whole job of MMPose's tools/train.py: plain FT, CTD-ED, and options that make it faster.

On synthetic faces with an untrained ResNet-50 as source, since its training does not affect the time. Each job trains
several epochs and validates after the last; the log states the time of each step, and how much of it was spent waiting
for data.

    OMP_NUM_THREADS=2 python benchmarks/job_cost.py
    python benchmarks/job_cost.py --device cuda --images 512 --workers 8      # and mixed precision, larger batches
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from provenance import provenance
from result_lines import append
from run_log import lines

from xtask_reg.data import synthetic
from xtask_reg.integrations.mmpose import caffe_resnet
from xtask_reg.integrations.mmpose.tools import run_tool
from xtask_reg.integrations.mmpose_files import configs
from xtask_reg.sources import save_weights

RESULTS = Path(__file__).parent / "results" / "job_cost.jsonl"
WARM_UP = 2
"""Steps at the start of each epoch that do not count in the median: the workers start in them."""
AMP = {"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.dtype": "bfloat16"}
FAST = {"model.teacher.dtype": "bfloat16", "model.teacher.channels_last": "True"}


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        config: the system, as in the names of the configs.
        batch: images per step.
        options: further ``--cfg-options``.
    """

    config: str
    batch: int = 2
    options: dict[str, str] = field(default_factory=dict)


USUAL = {"FT": Job("ft"), "CTD-ED": Job("ctd-ed")}
JOBS = {
    "cpu": {**USUAL, "CTD-ED, teacher in bfloat16": Job("ctd-ed", 2, {"model.teacher.dtype": "bfloat16"})},
    "cuda": {
        **USUAL,
        **{f"CTD-ED, AMP, batch {batch}": Job("ctd-ed", batch, AMP | FAST) for batch in (32, 8, 64)},
        "FT, AMP, batch 32": Job("ft", 32, AMP),
        "CTD-ED, AMP, batch 128": Job("ctd-ed", 128, AMP | FAST),
    },
}


def prepare(folder: Path, images: int) -> dict[str, object]:
    """Write faces and source; returns the ``--cfg-options`` with their paths."""
    for split, people in {"train": range(images), "val": range(2000, 2000 + max(images // 8, 12))}.items():
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


def run(job: Job, work: Path, options: dict[str, object], images: int, epochs: int) -> dict[str, Any]:
    """Train, and read the times from the log."""
    config = configs() / f"td-hm_res50_{job.config}_landmarks-256x256.py"
    every = {"default_hooks.logger.interval": 1, "log_processor.window_size": 1}
    length = {"train_cfg.max_epochs": epochs, "train_cfg.val_interval": epochs}
    own = {"train_dataloader.batch_size": job.batch, **job.options}
    run_tool("train", [str(config), "--work-dir", str(work)], {**options, **own, **every, **length}, work / "train.txt")
    return {"batch": job.batch, **times(work, images)}


def times(work: Path, images: int) -> dict[str, Any]:
    """The times in a work folder's log.

    For each step and the validation, the seconds, and those spent waiting for data. For whole epochs after the first,
    including the start of the workers, the images per second and the fraction of time spent waiting.
    """
    log = lines(work)
    steps = [line for line in log if "loss" in line]
    first = {line["epoch"]: line["step"] for line in reversed(steps)}
    steady = [line for line in steps if line["step"] >= first[line["epoch"]] + WARM_UP]
    whole = [line for line in steps if line["epoch"] > 1]
    seconds = sum(line["time"] for line in whole)
    (validation,) = [line for line in log if "landmark/ME" in line]
    return {
        "step_seconds": [round(line["time"], 5) for line in steady],
        "data_seconds": [round(line["data_time"], 5) for line in steady],
        "images_per_second": round(images * (len(first) - 1) / seconds, 2),
        "waited": round(sum(line["data_time"] for line in whole) / seconds, 4),
        "validation": {key: round(validation[key], 4) for key in ("time", "data_time")},
    }


def main() -> None:
    """Run the jobs; each adds a line to the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=JOBS, default="cpu", help="MMEngine takes a GPU wherever it finds one")
    parser.add_argument("--images", type=int, default=48, help="to train on")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="processes that read the images")
    parser.add_argument("--only", nargs="+", help="some of the jobs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    settings = {name: getattr(arguments, name) for name in ("device", "images", "epochs", "workers")}
    settings["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS")
    jobs = JOBS[arguments.device]
    with tempfile.TemporaryDirectory() as folder:
        options = prepare(Path(folder), arguments.images)
        options |= {
            "train_dataloader.num_workers": arguments.workers,
            "train_dataloader.persistent_workers": arguments.workers > 0,
        }
        for number, name in enumerate(arguments.only or jobs):
            found = run(jobs[name], Path(folder) / str(number), options, arguments.images, arguments.epochs)
            append(arguments.results, {"job": name, **settings, **found, **provenance()})


if __name__ == "__main__":
    main()
