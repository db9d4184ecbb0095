"""How long the training process waits for a batch that a worker has ready, with MMEngine's collation and with ours.

A worker transfers each tensor in a separate call. Synthetic faces through the shipped pipeline at 256 px; the two
collations alternate, each with one worker that is given the time to work ahead.

    OMP_NUM_THREADS=1 python benchmarks/loader_cost.py
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from provenance import provenance
from steps.job_report import loader_table

from xtask_reg.data import synthetic
from xtask_reg.integrations.mmpose.tools import read_config
from xtask_reg.integrations.mmpose_files import configs

RESULTS = Path(__file__).parent / "results" / "loader_cost.json"
COLLATIONS = ("pseudo_collate", "stacked_collate")
CONFIG = "td-hm_res50_ft_landmarks-256x256.py"


def batches(folder: Path, collation: str, size: int) -> Iterator[Any]:
    """Batches of the shipped pipeline, read by one worker."""
    config = read_config(configs() / CONFIG).train_dataloader
    config.update(batch_size=size, num_workers=1, collate_fn={"type": collation})
    config.sampler = {"type": "InfiniteSampler"}
    config.dataset.data_root = str(folder)
    return iter(Runner.build_dataloader(config, seed=0))


def measure(folder: Path, size: int, rounds: int, ahead: float) -> dict[str, list[float]]:
    """Milliseconds of each collation in each round.

    Args:
        folder: the folder of the faces.
        size: images per batch.
        rounds: batches to time of each, after one that does not count.
        ahead: seconds per image that a worker is given to prepare two batches ahead.
    """
    loaders = {collation: batches(folder, collation, size) for collation in COLLATIONS}
    found: dict[str, list[float]] = {collation: [] for collation in COLLATIONS}
    for _ in range(rounds + 1):
        for collation, loader in loaders.items():
            time.sleep(2 * size * ahead)  # until all workers are ahead and idle
            start = time.perf_counter()
            next(loader)
            found[collation].append(round(1000 * (time.perf_counter() - start), 3))
    return {collation: values[1:] for collation, values in found.items()}


def main() -> None:
    """Measure, print, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--ahead", type=float, default=0.015, help="seconds an image that a worker is given")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        synthetic.write_landmark_set(Path(folder), range(64), 1, 256, split="train")
        sizes = arguments.batches
        measured = {str(size): measure(Path(folder), size, arguments.rounds, arguments.ahead) for size in sizes}
    arguments.out.write_text(json.dumps({"milliseconds": measured, **provenance()}, indent=1) + "\n")
    print(loader_table(measured))


if __name__ == "__main__":
    main()
